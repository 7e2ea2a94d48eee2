"""Policy and Rule: what a user writes, and parsing with the path of the first error. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

from forkpoint_policies.actions.discovery import ACTIONS

from .actions import Amplify, EndReasoning, Force, Observe, Recycle, Steer, Stop, Suppress, Truncate
from .conditions import OF_EARLIER, OF_TEXT, When
from .errors import InputError, explain
from .fields import MAX_RULES, Heat, Match, Name, Number, Strict, exactly_one
from .size_limits import SizeLimitError, check_size
from .tree_actions import Branch, Probe, Resume, Sample, TreeAction

DEFAULT_FORK_THRESHOLD_NATS = 0.672
"""The 80th percentile of Qwen3-8B's token entropies on one task (arXiv:2506.01939); what uncalibrated models get."""

MAX_STRENGTH_NATS = 40.0
"""Of a placebo matched by dose: beyond it, what is lowered has no probability left."""

SCHEMA = Path(__file__).parent / "policy.schema.json"
"""The language as a JSON Schema, as it is served and shipped."""


class Control(Strict):
    """The matched placebo of another rule: it acts on tokens or positions chosen at random.

    `probability`: where the rule would act, the same probability moves from (or to) other tokens, up to what they hold.
    `count`: the same number of tokens, sampled from the vocabulary. `frequency`: tokens with the same total frequency
    in the model's own text. `positions`: the same action at the same share of positions. `dose`: at every position of
    the rule's region and range of tokens, other tokens' logits move up or down at random, `strength` nats apart; it is
    the strength at which the mean effect per token is the policy's, as `forkpoint ab` finds it. The request's seed
    determines all of them. `direction`: in place of a rule's vector, one of the same norm in a random direction, the
    same for every request.
    """

    like: Rule
    match: Match
    strength: Annotated[Number, Field(gt=0, le=MAX_STRENGTH_NATS)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Control:
        if self.match == "dose" and self.strength is None:
            raise ValueError(
                "match `dose` needs a `strength` in nats: the one that `forkpoint ab` calibrates for this model"
            )
        if self.match != "dose" and self.strength is not None:
            raise ValueError(f"`strength` is of match `dose`; match {self.match!r} has none")
        return self


class _Actions(Strict):
    suppress: Suppress | None = None
    amplify: Amplify | None = None
    temperature: Heat | None = None
    truncate: Truncate | None = None
    force: Force | None = None
    end_reasoning: EndReasoning | None = None
    stop: Stop | None = None
    branch: Branch | None = None
    probe: Probe | None = None
    sample: Sample | None = None
    resume: Resume | None = None
    steer: Steer | None = None
    recycle: Recycle | None = None


if TYPE_CHECKING:

    class _AllActions(_Actions):
        """With the actions that are a file each."""

else:
    _AllActions = create_model(
        "_AllActions", __base__=_Actions, **{name: (one.fields | None, None) for name, one in ACTIONS.items()}
    )


class Do(_AllActions):
    """What to do where the conditions hold: exactly one of the actions."""

    control: Control | None = None
    observe: Observe | None = None

    @model_validator(mode="after")
    def _check(self) -> Do:
        exactly_one(self, "must hold exactly one action of")
        return self

    @property
    def action(self) -> str:
        """The name of the action."""
        return next(iter(self.model_fields_set))

    @property
    def tree_action(self) -> TreeAction | None:
        """The action, if it is one that takes several requests of the engine."""
        return self.branch or self.probe or self.sample or self.resume

    @property
    def on_states(self) -> Steer | Recycle | None:
        """The action, if it changes hidden states."""
        return self.steer or self.recycle


class Rule(Strict):
    """One condition and one action."""

    when: When = When()
    do: Do

    @model_validator(mode="after")
    def _check(self) -> Rule:
        do, when = self.do, self.when
        if do.control is not None and when.model_fields_set:
            raise ValueError(
                "a control acts where the rule that it is like would act; put the conditions into do.control.like.when"
            )
        if do.control is not None and do.control.like.do.control is not None:
            raise ValueError("a control of a control is the same control; let it be like the rule itself")
        if (do.sample is not None or do.resume is not None) and when.model_fields_set:
            raise ValueError(f"{do.action} is about whole answers, so it has no conditions; leave `when` out")
        ends = (
            do.end_reasoning is not None
            or do.probe is not None
            or (do.force is not None and do.force.instead_of == "end_of_reasoning")
        )
        if when.region == "answer" and (
            ends or when.end_of_reasoning_within is not None or when.end_of_reasoning_rank_below is not None
        ):
            raise ValueError(
                "contradicts itself: in the answer the reasoning has already ended; use region `reasoning`"
            )
        if when.probe_confidence_above is not None and self.tree_action is not None:
            raise ValueError(
                f"{do.action} cannot wait for a probe: a request has one tree; leave probe_confidence_above out"
            )
        if do.probe is not None:
            self._check_probe(do.probe)
        if do.on_states is not None and do.on_states.is_from_here and (unknown := when.of_model):
            raise ValueError(
                f"when.{unknown[0]} is known only after the forward pass that a {do.action} with `from` `here` "
                f"changes; its conditions can be {', '.join(OF_TEXT)}; `from` `next` takes all"
            )
        if do.recycle is not None and do.recycle.draws_again:
            earlier = next((name for name in OF_EARLIER if getattr(when, name) is not None), None)
            if earlier is not None:
                raise ValueError(
                    f"when.{earlier} is not known where a recycle with `from` `again` decides: its conditions are of "
                    "the text and of the distribution at the position; `from` `next` takes all"
                )
        return self

    def _check_probe(self, probe: Probe) -> None:
        when, needed = self.when, probe.needed
        if when.at_most is not None and when.at_most < needed:
            raise ValueError(f"when.at_most {when.at_most} is fewer than the {needed} trial answers that an end needs")
        first, every = when.after_token or 0, when.every or 1
        if isinstance(when.before_token, int) and isinstance(first, int):
            positions = len(range(-(-first // every) * every, when.before_token, every))
            if positions < needed:
                raise ValueError(
                    f"when.before_token {when.before_token} leaves {positions} positions, and an end needs {needed} "
                    "trial answers"
                )
        if probe.drop == "previous" and when.previous is None:
            raise ValueError("do.probe.drop 'previous' needs when.previous, whose word or ending is dropped")

    @property
    def original(self) -> Rule:
        """The rule of which this one is the placebo, or this rule if it is not a placebo."""
        return self.do.control.like if self.do.control is not None else self

    @property
    def confidence_bound(self) -> float | None:
        """The confidence of a probe's answer above which the rule, or its original, acts."""
        return self.original.when.probe_confidence_above

    @property
    def tree_action(self) -> TreeAction | None:
        """The action of the original rule, if it is one that runs several engine requests."""
        return self.original.do.tree_action


Control.model_rebuild()
Do.model_rebuild()


class Policy(Strict):
    """A named list of rules, applied in order: masks first, then biases, then temperature and truncation, then what is
    forced."""

    name: Name = "inline"
    description: Annotated[str, StringConstraints(max_length=4000)] = ""
    source: Annotated[str, StringConstraints(max_length=400)] = ""
    shadow: Annotated[bool, Field(strict=True)] = False
    rules: tuple[Rule, ...] = Field(max_length=MAX_RULES, fail_fast=True)

    @model_validator(mode="after")
    def _check(self) -> Policy:
        numbers = [number for number, rule in enumerate(self.rules) if rule.tree_action is not None]
        if len(numbers) > 1:
            raise ValueError(
                f"rules {numbers} take several requests; a request has one tree, so only one rule of a policy can"
            )
        self._check_measured()
        changing = [rule.original.do.on_states for rule in self.rules]
        again = [number for number, one in enumerate(changing) if isinstance(one, Recycle) and one.draws_again]
        others = [number for number, one in enumerate(changing) if one is not None and number not in again]
        if again and others:
            raise ValueError(
                f"rules {again} let the model compute a position again, and rules {others} change how it reads tokens; "
                "a policy does one of the two"
            )
        return self

    def _check_measured(self) -> None:
        """The rules that wait for what the probe measures have one, and one bound."""
        bounds = {
            number: bound for number, rule in enumerate(self.rules) if (bound := rule.confidence_bound) is not None
        }
        tree = self.tree_rule
        probe = tree.original.do.probe if tree is not None else None
        measures = probe is not None and probe.measure_only
        if bounds and not measures:
            raise ValueError(
                f"rules[{min(bounds)}].when.probe_confidence_above needs another rule with a probe that is measure_only"
            )
        if measures and not bounds:
            raise ValueError("a probe that is measure_only needs a rule with when.probe_confidence_above")
        if len(set(bounds.values())) > 1:
            raise ValueError(f"rules {sorted(bounds)} have different probe_confidence_above; give them one bound")

    @property
    def tree_rule(self) -> Rule | None:
        """The rule whose action runs several engine requests, if there is one."""
        return next((rule for rule in self.rules if rule.tree_action is not None), None)

    @property
    def confidence_bound(self) -> float | None:
        """The confidence of a probe's answer above which the rules that wait for one act; None without such rules."""
        return next((bound for rule in self.rules if (bound := rule.confidence_bound) is not None), None)

    @property
    def changes_states(self) -> bool:
        """Whether it, or what it is a placebo of, changes hidden states: the server needs hooked layers."""
        return any(rule.original.do.on_states is not None for rule in self.rules)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the policy: of the SHA-256 of its canonical JSON."""
        canonical = json.dumps(
            self.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":")
        )
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    @property
    def artefacts(self) -> frozenset[str]:
        """The names of the readouts that its conditions depend on, and of the vectors with which it steers."""
        rules = [rule.original for rule in self.rules]
        readouts = (name for rule in rules for name in rule.when.readouts)
        return frozenset([*readouts, *(rule.do.steer.vector for rule in rules if rule.do.steer is not None)])

    def in_shadow(self) -> Policy:
        """The same policy, evaluated and recorded without changing anything."""
        return self.model_copy(update={"shadow": True})


_MESSAGES = {
    "string_pattern_mismatch": (
        "must be lower-case letters, digits, '.', '_' or '-', at most 64 of them, and begin with a letter or digit"
    ),
}


def parse_policy(data: Any, field: str = "policy") -> Policy:
    """Read a policy from JSON-like data. Raises InputError with the path of the first field that is wrong."""
    if not isinstance(data, dict):
        raise InputError(field, f"must be an object with `rules`, not {type(data).__name__}")
    try:
        check_size(data)
        return Policy.model_validate(data)
    except SizeLimitError as error:
        raise InputError(field + error.path, str(error)) from None
    except ValidationError as error:
        raise explain(error, Policy, field, "a policy", _MESSAGES) from None
