"""Compiles a policy for a served model: words to token ids, names to numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from forkpoint_policies.placebo import PlaceboSampler, follows_signals, kinds_of
from forkpoint_policies.spec import (
    Control,
    EndReasoning,
    EntropyTemperature,
    Force,
    InputError,
    Policy,
    Previous,
    Probe,
    Resume,
    Rule,
    Sample,
    Schedule,
    Stop,
    Tokens,
    TreeAction,
    Truncate,
    When,
)

from .deciding_tokens import biased_tokens
from .policy_words import named_words, policy_automaton, with_families
from .program import (
    NO_TOKEN,
    TRUNCATIONS,
    UNLIMITED,
    Action,
    CompiledRule,
    ControlKind,
    Curve,
    Program,
    RegionCode,
    Shape,
    Signal,
    TokenSet,
    key_of,
)
from .served_model import ServedModel
from .word_automaton import ANY_STATE, FREE, Automaton, Completion

__all__ = ["MAX_ENTRIES", "MAX_FORCED", "CompiledPolicy", "ServedModel", "compile_policy", "named_words"]

MAX_FORCED = 64
MAX_ENTRIES = 4096
"""Of one rule's set of tokens: every row of a batch holds the largest set that any of its policies has, for each rule.
"""

_ORDER = {Action.MASK: 1, Action.BIAS: 2, Action.TEMPERATURE: 3, Action.FORCE: 5, **dict.fromkeys(TRUNCATIONS, 4)}
_CUTS = {"top_k": Action.TOP_K, "top_p": Action.TOP_P, "min_p": Action.MIN_P, "top_h": Action.TOP_H}


@dataclass(frozen=True)
class CompiledPolicy:
    """A policy as a program for the served model, with all that its requests need.

    `warnings` are for the policy's author. `placebo_samplers` sample, for each request, the tokens that replace a
    rule's own. `written` are the tokens with which further requests of a probe or a resumption start; those of its
    placebo are sampled by `written_instead`. `label` is the policy's name in metrics; `none` for requests that are only
    observed.
    """

    policy: Policy
    program: Program
    warnings: tuple[str, ...] = ()
    placebo_samplers: tuple[PlaceboSampler, ...] = ()
    written: tuple[int, ...] = ()
    written_instead: PlaceboSampler | None = None
    label: str = "none"

    @property
    def is_named(self) -> bool:
        """Whether a policy applies, rather than only observation."""
        return self.label != "none"

    @cached_property
    def packed(self) -> bytes:
        """The program as it is sent to the worker."""
        return self.program.pack()

    @cached_property
    def key(self) -> str:
        """The program's name in the worker."""
        return key_of(self.packed)

    @cached_property
    def digest(self) -> str:
        """The policy's digest; computed once, as responses quote it."""
        return self.policy.digest

    @cached_property
    def actions(self) -> tuple[str, ...]:
        """The action of each compiled rule, by the name that the user wrote."""
        return tuple(self.policy.rules[rule.number].do.action for rule in self.program.rules)

    def placebo_tokens(self, seed: int) -> dict[int, list[int]]:
        """The tokens that replace those of a rule (by its index in the program) in a request with this seed."""
        return {sampler.rule: sampler.tokens(seed) for sampler in self.placebo_samplers}

    def written_tokens(self, seed: int) -> list[int]:
        """The tokens with which further requests of a request with this seed start."""
        return list(self.written) if self.written_instead is None else self.written_instead.tokens(seed)


def compile_policy(policy: Policy, target: ServedModel, path: str = "policy") -> CompiledPolicy:
    """Turn a policy into a program. Raises InputError where the served model cannot express it."""
    build = _Build(target, policy_automaton(policy, target.vocabulary, path))
    rules = [build.rule(rule, number, f"{path}.rules[{number}]") for number, rule in enumerate(policy.rules)]
    build.check_contradictions(policy, path)
    _check_overlaps(rules, path)
    if not target.regions.has_reasoning and any(rule.original.when.region != "any" for rule in policy.rules):
        build.warnings.append(
            "the server was started without --reasoning-parser: all generated text counts as reasoning"
        )
    ordered = sorted(
        rules, key=lambda rule: _ORDER.get(Action(rule.action), 0)
    )  # stable: among equals, the policy's order
    index_of = {rule.number: index for index, rule in enumerate(ordered)}
    automaton = build.automaton
    program = Program(
        rules=ordered,
        shadow=policy.shadow,
        regions=list(target.regions.moves),
        reasoning_end=target.reasoning_end,
        moves=[(state, token, after) for (state, token), after in automaton.moves.items()],
        tails=list(automaton.tails.items()),
        word_free=np.packbits(target.vocabulary.index.ends_word_free, bitorder="little").tobytes()
        if automaton.states
        else b"",
    )
    return CompiledPolicy(
        policy,
        program,
        warnings=tuple(dict.fromkeys(build.warnings)),
        placebo_samplers=tuple(replace(sampler, rule=index_of[sampler.rule]) for sampler in build.placebo_samplers),
        written=tuple(build.written),
        written_instead=build.written_instead,
    )


def _check_overlaps(rules: list[CompiledRule], path: str) -> None:
    """Reject two rules that replace the same token: it would be undefined which one acts."""
    standing: dict[int, int] = {}
    for rule in rules:
        for token in rule.target.tokens if rule.instead else ():
            other = standing.setdefault(token, rule.number)
            if other != rule.number:
                raise InputError(
                    f"{path}.rules[{rule.number}].do",
                    f"stands in for tokens for which rules[{other}] stands in; name each once",
                )


class _Build:
    """One compilation: the served model, and what is collected on the way."""

    def __init__(self, target: ServedModel, automaton: Automaton) -> None:
        self.target = target
        self.automaton = automaton
        self.warnings: list[str] = []
        self.placebo_samplers: list[PlaceboSampler] = []
        self.written: list[int] = []
        self.written_instead: PlaceboSampler | None = None

    def rule(self, rule: Rule, number: int, path: str) -> CompiledRule:
        if rule.do.control is not None:
            like = self._plain(rule.do.control.like, number, f"{path}.do.control.like")
            return self._control(rule.do.control, like, f"{path}.do.control.match")
        return self._plain(rule, number, path)

    def check_contradictions(self, policy: Policy, path: str) -> None:
        """Reject a rule that raises tokens which another rule masks under the same conditions."""
        masking = {
            number: rule
            for number, rule in enumerate(policy.rules)
            if rule.do.suppress and rule.do.suppress.bias is None
        }
        raising = {number: rule for number, rule in enumerate(policy.rules) if rule.do.amplify}
        for number, rule in raising.items():
            for other, mask in masking.items():
                if rule.when != mask.when or rule.do.amplify is None or mask.do.suppress is None:
                    continue
                if self._completing(mask.do.suppress) >= self._completing(rule.do.amplify):
                    raise InputError(
                        f"{path}.rules[{number}].do.amplify",
                        f"contradicts rules[{other}], which under the same conditions never lets these tokens be "
                        "sampled",
                    )

    def _completing(self, tokens: Tokens) -> set[Completion]:
        """The tokens that complete the words of a set, and those that it names by id."""
        words = (entry for word in named_words(tokens) for entry in self.automaton.completions[word])
        return {*words, *((ANY_STATE, token) for token in tokens.token_ids)}

    def _plain(self, rule: Rule, number: int, path: str) -> CompiledRule:
        when, field = with_families(rule.when), f"{path}.do.{rule.do.action}"
        if when.region != "any" and self.target.regions.unfollowed:
            raise InputError(f"{path}.when.region", self.target.regions.unfollowed)
        low, high = self._bounds(when, f"{path}.when")
        if when.end_of_reasoning_within is not None:
            self._need_end_token(f"{path}.when.end_of_reasoning_within")
        previous = self._tokens(when.previous, f"{path}.when.previous") if when.previous is not None else TokenSet()
        conditions: dict[str, Any] = {
            "number": number,
            "low": low,
            "high": high,
            "probability": _curve(when.probability),
            "mass": self._words(when, f"{path}.when.words")
            if when.connector_probability_above is not None
            else TokenSet(),
            "since": self._words(when, f"{path}.when.words") if when.since_connector_below is not None else TokenSet(),
            "since_below": when.since_connector_below or UNLIMITED,
            "previous": previous,
            "needs_previous": when.previous is not None,
            "window": when.confidence_window if when.confidence_below is not None else 0,
            "region": RegionCode[when.region.upper()],
            "first_position": when.after_token or 0,
            "last_position": UNLIMITED if when.before_token is None else when.before_token - 1,
            "every": when.every or 1,
            "at_most": when.at_most or UNLIMITED,
        }
        return CompiledRule(**{**conditions, **self._action(rule, field)})

    def _action(self, rule: Rule, field: str) -> dict[str, Any]:
        do = rule.do
        if do.suppress is not None:
            action = Action.MASK if do.suppress.bias is None else Action.BIAS
            return {
                "action": action,
                "strength": _curve(do.suppress.bias or 0.0),
                "target": (self._tokens if action == Action.MASK else self._biased)(do.suppress, field),
            }
        if do.amplify is not None:
            return {
                "action": Action.BIAS,
                "strength": _curve(do.amplify.bias),
                "target": self._biased(do.amplify, field),
            }
        if do.temperature is not None:
            return {
                "action": Action.TEMPERATURE if do.temperature != 0 else Action.LIKELIEST,
                "strength": _curve(do.temperature),
            }
        if do.truncate is not None:
            return {"action": _CUTS[do.truncate.kind], "strength": _curve(self._cut(do.truncate, field))}
        if do.observe is not None:
            return {"action": Action.OBSERVE, "strength": _curve(0.0)}
        if do.tree_action is not None:
            self.written = self._written(do.tree_action, field)
            nowhere = {"at_most": 0} if isinstance(do.tree_action, Sample | Resume) else {}
            return {"action": Action.TREE, "strength": _curve(0.0), **nowhere}
        return {
            "action": Action.FORCE,
            "strength": _curve(0.0),
            **self._forced(do.force or do.end_reasoning or do.stop, field),
        }

    def _forced(self, action: Force | EndReasoning | Stop | None, field: str) -> dict[str, Any]:
        assert action is not None
        if isinstance(action, EndReasoning):
            text = self._need_reasoning_end(field)
        elif isinstance(action, Stop):
            text = [self.target.stop]
            if self.target.stop == NO_TOKEN:
                raise InputError(field, "cannot be done: the served model has no token that ends its text")
        else:
            text = self._text(action.text, f"{field}.text")
        if action.instead_of is None:
            return {"text": text}
        if action.instead_of == "end_of_reasoning":
            end = self._need_end_token(f"{field}.instead_of")
            return {"text": text, "instead": True, "target": TokenSet([end], [ANY_STATE])}
        return {"text": text, "instead": True, "target": self._tokens(action.instead_of, f"{field}.instead_of")}

    def _written(self, action: TreeAction, field: str) -> list[int]:
        """What further requests start with: a probe's end of the reasoning and text, or the text that an answer goes on
        with."""
        if isinstance(action, Probe):
            if not action.text and action.variance_below is None:
                self.warnings.append(
                    f"{field}.text is empty, so that what the model says first after its reasoning is tried, its "
                    "result or not; a text that requests the result is surer"
                )
            text = self._text(action.text, f"{field}.text") if action.text else []
            return [*self._need_reasoning_end(field), *text]
        return self._text(action.text, f"{field}.text") if isinstance(action, Resume) else []

    def _text(self, text: str, field: str) -> list[int]:
        encode = self.target.encode
        if encode is None:
            raise InputError(field, "cannot be written: the served model has no tokenizer")
        tokens = encode(text)
        written = b"".join(self.target.vocabulary.tokens[token] for token in tokens)
        if written != text.encode(errors="replace"):
            came = written.decode(errors="replace")
            raise InputError(
                field, f"{text!r} does not come back from the served model's tokenizer; it comes back as {came!r}"
            )
        if len(tokens) > MAX_FORCED:
            raise InputError(field, f"is {len(tokens)} tokens for the served model; {MAX_FORCED} at most")
        return tokens

    def _cut(self, truncate: Truncate, field: str) -> float:
        size = float(getattr(truncate, truncate.kind))
        if truncate.kind == "top_k" and size > self.target.vocabulary.size:
            raise InputError(
                f"{field}.top_k", f"is more than the {self.target.vocabulary.size} tokens of the served model"
            )
        return size

    def _need_reasoning_end(self, field: str) -> list[int]:
        """The tokens that end the reasoning."""
        regions = self.target.regions
        if not regions.reasoning_end:
            start = "start the server with a --reasoning-parser that names the marker that ends it"
            raise InputError(field, f"cannot end the reasoning: {regions.unfollowed or start}")
        return list(regions.reasoning_end)

    def _need_end_token(self, field: str) -> int:
        """The one token that ends the reasoning."""
        end = self._need_reasoning_end(field)
        if len(end) > 1:
            raise InputError(field, f"needs one token that ends the reasoning; this model writes {len(end)} of them")
        return end[0]

    def _bounds(self, when: When, path: str) -> tuple[list[float], list[float]]:
        low, high = [-math.inf] * len(Signal), [math.inf] * len(Signal)
        limits = (
            (Signal.ENTROPY, when.entropy_above, when.entropy_below),
            (Signal.VARENTROPY, when.varentropy_above, when.varentropy_below),
            (Signal.TOP_PROBABILITY, when.top_probability_above, when.top_probability_below),
            (Signal.MASS, when.connector_probability_above, None),
            (Signal.RANK, when.entropy_quantile_above, None),
            (Signal.CONFIDENCE, None, when.confidence_below),
        )
        for signal, above, below in limits:
            if above is not None:
                low[signal] = self.target.fork_threshold if above == "fork" else float(above)
            if below is not None:
                high[signal] = self.target.fork_threshold if below == "fork" else float(below)
            if low[signal] >= high[signal]:
                name = signal.name.lower()
                raise InputError(
                    path, f"no position has {name}_above {low[signal]:g} and {name}_below {high[signal]:g}"
                )
        if when.end_of_reasoning_within is not None:  # this bound includes its end
            high[Signal.END_MARGIN] = float(np.nextafter(np.float32(when.end_of_reasoning_within), np.float32(np.inf)))
        return low, high

    def _words(self, tokens: Tokens | When, field: str) -> TokenSet:
        return _token_set((entry for word in named_words(tokens) for entry in self.automaton.completions[word]), field)

    def _tokens(self, tokens: Tokens, field: str) -> TokenSet:
        self.target.vocabulary.check_ids(tokens.token_ids, f"{field}.token_ids")
        entries = [entry for word in named_words(tokens) for entry in self.automaton.completions[word]]
        entries += [(ANY_STATE, token) for token in tokens.token_ids]
        if isinstance(tokens, Previous):
            entries += [entry for ending in tokens.endings for entry in self.automaton.endings[ending]]
        return _token_set(entries, field)

    def _biased(self, tokens: Tokens, field: str) -> TokenSet:
        """As `_tokens`, but a word of several tokens by the one that decides it: at the last, a bias comes too late."""
        self.target.vocabulary.check_ids(tokens.token_ids, f"{field}.token_ids")
        entries: list[Completion] = [(ANY_STATE, token) for token in tokens.token_ids]
        for word in named_words(tokens):
            biased = biased_tokens(word, self.automaton, self.target.vocabulary, self.target.encode)
            entries += biased.entries
            if biased.beginnings:
                said = ", ".join(map(repr, biased.beginnings))
                self.warnings.append(
                    f"{field}: {word!r} is several tokens for this model in some spellings; there the bias acts on the "
                    f"token that decides it: {said}"
                )
        return _token_set(entries, field)

    def _control(self, control: Control, like: CompiledRule, field: str) -> CompiledRule:
        match, possible = control.match, kinds_of(control.like)
        if match not in possible:
            said = ", ".join(possible) or "nothing, as it does the same at every position"
            raise InputError(field, f"a rule that does this can be matched by {said}; not by {match!r}")
        if match == "probability":
            return msgspec.structs.replace(like, control=ControlKind.PROBABILITY)
        if match == "positions":
            tree_action = control.like.tree_action
            by_server = isinstance(tree_action, Probe | Sample) or (
                tree_action is not None and not follows_signals(control.like)
            )
            return like if by_server else msgspec.structs.replace(like, control=ControlKind.POSITIONS)
        vocabulary, forced = self.target.vocabulary, like.action in (Action.FORCE, Action.TREE)
        # the tokens that are the whole word: other pieces complete it only after a prefix
        own = {t for t, s in zip(like.target.tokens, like.target.states, strict=True) if s in (ANY_STATE, FREE)}
        replaced = (like.text or self.written) if forced else sorted(own) or like.target.tokens[:1]
        excluded = {
            *vocabulary.silent,
            *like.target.tokens,
            *like.text,
            *self.written,
            *self.target.regions.reasoning_start,
            *self.target.regions.reasoning_end,
        }
        frequency, shares = None, None
        if match == "frequency":
            if not self.target.frequencies:
                raise InputError(
                    field, "`frequency` needs the token frequencies of the served model, which was not calibrated"
                )
            excluded |= self.target.connectors
            frequency = sum(self.target.frequencies.get(token, 0.0) for token in replaced)
            pool = np.array([token for token in sorted(self.target.frequencies) if token not in excluded], np.int64)
            shares = np.array([self.target.frequencies[token] for token in pool.tolist()])
        else:
            pool = np.setdiff1d(np.arange(vocabulary.size), np.array(sorted(excluded), np.int64))
        needed = len(replaced) if frequency is None else 1
        if len(pool) < needed:
            raise InputError(field, f"needs {needed} other tokens to draw from; the served model has {len(pool)}")
        draw = PlaceboSampler(like.number, len(replaced), pool, frequency, shares, text=forced)
        if like.action == Action.TREE:
            self.written_instead = draw
            return like
        self.placebo_samplers.append(draw)
        sampled = msgspec.structs.replace(like, control=ControlKind.SAMPLED)
        return sampled if forced else msgspec.structs.replace(sampled, target=TokenSet())


def _curve(value: float | Schedule | EntropyTemperature) -> Curve:
    if isinstance(value, EntropyTemperature):
        return Curve(Shape.ENTROPY, value.scale, value.base, value.exponent)
    if isinstance(value, Schedule) and value.shape == "linear":
        return Curve(Shape.LINEAR, *(float(number or 0.0) for number in (value.start, value.end, value.over)))
    if isinstance(value, Schedule):
        return Curve(Shape.TRIANGULAR, float(value.amplitude or 0.0), float(value.period or 0.0))
    return Curve(Shape.CONSTANT, float(value))


def _token_set(entries: Iterable[Completion], field: str) -> TokenSet:
    """Each (state, token) once; a token that belongs in every state is not listed for single states again.

    Raises InputError when they are more than a batch has room for.
    """
    known = set(entries)
    everywhere = {token for state, token in known if state == ANY_STATE}
    unique = sorted((s, t) for s, t in known if s == ANY_STATE or t not in everywhere)
    if len(unique) > MAX_ENTRIES:
        raise InputError(
            field, f"stand for {len(unique)} tokens of the served model, each in its contexts; {MAX_ENTRIES} at most"
        )
    return TokenSet([token for _, token in unique], [state for state, _ in unique])
