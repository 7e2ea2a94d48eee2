"""The matched placebo of a policy: it acts on tokens or positions chosen at random, matched place by place or by dose.

The published controls are unfair: to ban a set of random tokens removes almost no probability, to ban "Wait" removes a
lot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .actions.discovery import ACTIONS
from .spec import (
    MAX_NAME,
    MAX_TOKENS,
    RANK_BOUNDS,
    READOUT_BOUNDS,
    Control,
    Do,
    EntropyScale,
    InputError,
    Match,
    Policy,
    Probe,
    Rule,
    Sample,
)

PLACEBO = ".placebo"

_TOLERANCE = 1.05  # of a sampled set's frequency
_ALIKE = 20  # tokens of about the same frequency, to draw from
_RAREST = 1e-9

_SIGNALS = (
    "entropy_above", "entropy_below", "entropy_quantile_above", "varentropy_above", "varentropy_below",
    "top_probability_above", "top_probability_below", "connector_probability_above", "connector_likeliest",
    "confidence_below",
    "since_connector_below", "previous", "end_of_reasoning_within", "end_of_reasoning_rank_below", "mean_entropy_below",
    *RANK_BOUNDS, *READOUT_BOUNDS,
)  # fmt: skip
"""Conditions that choose positions by what the model does there; `positions` replaces them by chance."""


def kinds_of(rule: Rule) -> tuple[Match, ...]:
    """The ways to match a rule's placebo, the fairest first; none for a rule that acts everywhere alike."""
    do = rule.do
    kinds: list[Match] = []
    if do.probe is not None and do.probe.measure_only:
        return ()  # it changes nothing: the rules that wait for what it measures have placebos
    if do.suppress is not None or do.amplify is not None:
        kinds += ["probability", "count", "frequency"]
    if do.truncate is not None:
        kinds += ["probability"]
    if (declared := ACTIONS.get(do.action)) is not None:
        kinds += declared.matches
    if do.steer is not None:
        kinds += ["direction"]
    if do.force is not None or do.resume is not None or _writes_before_end(rule):
        kinds += ["count", "frequency"]
    if _chooses_positions(rule):
        kinds += ["positions"]
    changed = any(action is not None for action in (do.suppress, do.amplify, do.truncate, do.temperature, declared))
    if kinds and changed:
        kinds += ["dose"]
    return tuple(kinds)


def matches_of(policy: Policy) -> tuple[Match, ...]:
    """The kinds that some rule of a policy can be matched by, that of its first rule first."""
    return tuple(dict.fromkeys(kind for rule in policy.rules for kind in kinds_of(rule)))


def placebo_of(
    policy: Policy, match: Match | None = None, field: str = "policy", strength: float | None = None
) -> Policy:
    """NAME.placebo: every rule replaced by its control. A rule that `match` means nothing for gets the first that it
    can have. `strength` is of a placebo matched by dose, in nats.

    Raises InputError for a policy without a placebo, or one that cannot be matched so.
    """
    possible = matches_of(policy)
    if not possible:
        raise InputError(
            field, f"{policy.name!r} does the same at every position, so it has no placebo: it would be the same policy"
        )
    if match is not None and match not in possible:
        raise InputError(field, f"{policy.name!r} cannot be matched by {match!r}; it can by {', '.join(possible)}")
    if match == "dose" and strength is None:
        raise InputError(field, "a placebo matched by dose needs a strength in nats, as `forkpoint ab` finds it")
    if len(policy.name + PLACEBO) > MAX_NAME:
        raise InputError(
            f"{field}.name", f"is too long to have a placebo; at most {MAX_NAME - len(PLACEBO)} characters"
        )
    return Policy(
        name=policy.name + PLACEBO,
        description=(f"The placebo of {policy.name}: {_MATCHED[match or possible[0]]}"),
        source=policy.source,
        shadow=policy.shadow,
        rules=tuple(_control(rule, match, strength) for rule in policy.rules),
    )


_MATCHED: dict[Match, str] = {
    "probability": "where the policy would act, moves as much probability among other tokens, up to what they hold.",
    "count": "acts on as many tokens, chosen at random from the vocabulary.",
    "frequency": "acts on tokens chosen at random that are together as frequent in the model's own text.",
    "positions": "acts at as many positions, chosen at random.",
    "dose": "changes other tokens at random at every position, as much per token as its strength was calibrated to.",
    "direction": "adds a vector of the same norm in a direction chosen at random.",
}


def _control(rule: Rule, match: Match | None, strength: float | None) -> Rule:
    kinds = kinds_of(rule)
    if not kinds:
        return rule  # acts everywhere alike: so does its placebo
    chosen = match if match in kinds else kinds[0]
    if chosen != "dose":
        return Rule(do=Do(control=Control(like=rule, match=chosen)))
    return Rule(do=Do(control=Control(like=rule, match=chosen, strength=strength)))


def _chooses_positions(rule: Rule) -> bool:
    do = rule.do
    if do.steer is not None and isinstance(do.steer.scale, EntropyScale):
        return False  # elsewhere, other entropies would give it another scale
    instead = [action.instead_of for action in (do.force, do.end_reasoning, do.stop) if action is not None]
    by_entropy = do.temperature is not None and not isinstance(do.temperature, float)
    elsewhere = do.branch is not None or do.probe is not None or do.sample is not None
    return by_entropy or elsewhere or any(instead) or follows_signals(rule)


def _writes_before_end(rule: Rule) -> bool:
    """Whether the rule ends the reasoning with a text, at positions that do not depend on what the model does."""
    end = rule.do.end_reasoning
    return end is not None and bool(end.before or end.after) and not _chooses_positions(rule)


def follows_signals(rule: Rule) -> bool:
    """Whether what the model does says where the rule acts, rather than the position alone."""
    return any(getattr(rule.when, signal) is not None for signal in _SIGNALS)


def is_placed_by_server(rule: Rule) -> bool:
    """Whether the placebo of a tree rule is placed by the server, which alone knows where the rule acts: its kernel
    rule stays as it is. Of others, the kernel fires at random positions."""
    branch = rule.do.branch
    by_top_tokens = branch is not None and branch.top_entropy_above is not None
    return isinstance(rule.tree_action, Probe | Sample) or (
        rule.tree_action is not None and (by_top_tokens or not follows_signals(rule))
    )


@dataclass(frozen=True, eq=False)
class PlaceboSampler:
    """Samples, for each request, the tokens that replace a rule's own: `count` of them, or a set with the same
    `frequency`.

    `rule` is the rule's index in the program, `pool` the tokens to draw from, `shares` how often each comes in the
    model's own text: both [p]. A `text` keeps its length, and is sampled from tokens about as frequent as its own.
    `kept` are tokens of the text that stay, by their index in it: the end of the reasoning.
    """

    rule: int
    count: int
    pool: NDArray[np.int64]
    frequency: float | None = None
    shares: NDArray[np.float64] | None = None
    text: bool = False
    kept: tuple[tuple[int, int], ...] = ()

    def tokens(self, seed: int) -> list[int]:
        """The tokens for a request with this seed."""
        found = self._sample(seed)
        for index, token in self.kept:
            found.insert(index, token)
        return found

    def _sample(self, seed: int) -> list[int]:
        random = np.random.default_rng([seed & (2**63 - 1), self.rule])
        if self.frequency is None or self.shares is None:
            sampled: list[int] = self.pool[random.choice(len(self.pool), self.count, replace=False)].tolist()
            return sampled
        if self.text:
            near = np.abs(np.log(self.shares) - np.log(max(self.frequency / self.count, _RAREST)))
            alike = near.argsort(kind="stable")[: max(_ALIKE, self.count)]
            near_enough: list[int] = random.permutation(self.pool[alike])[: self.count].tolist()
            return near_enough
        fitting = np.flatnonzero(self.shares <= self.frequency * _TOLERANCE)
        if not len(fitting):
            return [int(self.pool[self.shares.argmin()])]
        total, found = 0.0, list[int]()
        order = random.permutation(fitting)
        for token, share in zip(self.pool[order].tolist(), self.shares[order].tolist(), strict=True):
            if total >= self.frequency or len(found) == MAX_TOKENS:
                break
            if total + share <= self.frequency * _TOLERANCE:
                found.append(token)
                total += share
        return found
