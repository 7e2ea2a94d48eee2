"""Compiles a policy for a served model: words to token ids, names to numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from msgspec import structs

from forkpoint_policies.actions.definition import Fields, Place, ServedNumbers
from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.placebo import PlaceboSampler
from forkpoint_policies.spec import (
    ANSWER,
    MAX_READOUTS,
    MAX_RULES,
    RANK_BOUNDS,
    READOUT_BOUNDS,
    EndReasoning,
    EntropyScale,
    EntropyTemperature,
    Force,
    InputError,
    NormalizedEntropyTemperature,
    Policy,
    Probe,
    ReadoutBound,
    ReasoningLengths,
    Recycle,
    Resume,
    Rule,
    Sample,
    Schedule,
    Steer,
    Stop,
    TreeAction,
    Truncate,
    When,
    unknown_name,
)

from .compiled_policy import CompiledPolicy, Insertion
from .controls import control_rule
from .deciding_tokens import marker_tokens
from .policy_words import named_words, policy_automaton, with_families
from .program import (
    NO_TOKEN,
    TRUNCATIONS,
    UNLIMITED,
    Action,
    CompiledRule,
    Curve,
    Program,
    RegionCode,
    Shape,
    Signal,
    TokenSet,
)
from .rule_conflicts import check_contradictions, check_overlaps, check_states, check_windows
from .served_model import DEFAULT_REASONING_TOKENS, ServedModel
from .token_sets import MAX_ENTRIES, TokenSets
from .word_automaton import ANY_STATE, Automaton, NamedWord

__all__ = ["MAX_ENTRIES", "MAX_FORCED", "CompiledPolicy", "ServedModel", "compile_policy", "named_words"]

MAX_FORCED = 64
MAX_WRITTEN = 256
"""Of a probe's texts, which are part of a prompt: no request is forced to write them."""
_PLACES = {
    Action.MASK: Place.MASK,
    Action.BIAS: Place.BIAS,
    Action.TEMPERATURE: Place.TEMPERATURE,
    **dict.fromkeys(TRUNCATIONS, Place.TRUNCATION),
}
_BEFORE, _FIRST, _LAST = -1, 0, max(Place) + 1


def compile_policy(policy: Policy, target: ServedModel, path: str = "policy") -> CompiledPolicy:
    """Turn a policy into a program. Raises InputError where the served model cannot express it."""
    marker = _spelled_marker(policy, target)
    build = _Build(target, policy_automaton(policy, target.vocabulary, path, marker), marker)
    rules = [build.rule(rule, number, f"{path}.rules[{number}]") for number, rule in enumerate(policy.rules)]
    by_rank = [one for number, rule in enumerate(policy.rules) for one in _rank_rules(rule, rules[number])]
    rules += [rule for _, rule in by_rank]
    if len(rules) > MAX_RULES:
        raise InputError(
            f"{path}.rules", f"take {len(rules)} rules of the kernel with a probe's ranks; {MAX_RULES} at most"
        )
    check_contradictions(policy, build.sets, path)
    check_overlaps(rules, path)
    check_windows(rules, path)
    check_states(rules, path)
    if not target.regions.has_reasoning and any(rule.original.when.region != "any" for rule in policy.rules):
        build.warnings.append(
            "the server was started without --reasoning-parser: all generated text counts as reasoning"
        )
    ordered = sorted(rules, key=_place)  # stable: among equals, the policy's order
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
        readouts=[target.artefacts[name].digest for name in build.readouts],
    )
    measured = [rule.number for rule in ordered if policy.rules[rule.number].confidence_bound is not None]
    unsure = [structs.replace(rule, at_most=0) if rule.number in measured else rule for rule in ordered]
    return CompiledPolicy(
        policy,
        structs.replace(program, rules=unsure) if measured else program,
        warnings=tuple(dict.fromkeys(build.warnings)),
        placebo_samplers=tuple(replace(sampler, rule=index_of[sampler.rule]) for sampler in build.placebo_samplers),
        written=tuple(build.written),
        written_instead=build.written_instead,
        trial=build.trial,
        ending=build.ending,
        when_sure=program if measured else None,
        final=tuple(build.final),
        rank_rules=tuple((rank, index) for rank, own in by_rank for index, rule in enumerate(ordered) if rule is own),
        readouts=tuple(build.readouts),
    )


def _place(rule: CompiledRule) -> int:
    """When a rule is applied. What is decided before the model computes a position comes first."""
    if rule.from_here:
        return _BEFORE
    if rule.action == Action.DECLARED:
        return ACTIONS[rule.declared].place
    return _LAST if rule.action == Action.FORCE else _PLACES.get(Action(rule.action), _FIRST)


def _rank_rules(rule: Rule, compiled: CompiledRule) -> list[tuple[int, CompiledRule]]:
    """For each rank that a probe tells apart, a rule that marks where the end of the reasoning has at most this one."""
    probe, found = rule.original.do.probe, []
    for rank in () if probe is None else probe.ranks:
        high = [*compiled.high]
        high[Signal.END_RANK] = min(high[Signal.END_RANK], rank + 1.0)
        found.append((rank, structs.replace(compiled, action=Action.OBSERVE, high=high)))
    return found


def _spelled_marker(policy: Policy, target: ServedModel) -> NamedWord | None:
    """The end of the reasoning, where a rule replaces it and it is several tokens."""
    forces = (rule.original.do.force for rule in policy.rules)
    if not any(force is not None and force.instead_of == "end_of_reasoning" for force in forces):
        return None
    end = target.regions.reasoning_end
    written = b"".join(target.vocabulary.tokens[token] for token in end)
    return NamedWord(written.decode(errors="replace"), cased=True) if len(end) > 1 else None


class _Build:
    """One compilation: the served model, and what is collected on the way."""

    def __init__(self, target: ServedModel, automaton: Automaton, marker: NamedWord | None = None) -> None:
        self.target = target
        self.marker = marker
        self.automaton = automaton
        self.warnings: list[str] = []
        self.sets = TokenSets(target, automaton, self.warnings)
        self.placebo_samplers: list[PlaceboSampler] = []
        self.written: list[int] = []
        self.final: list[int] = []
        self.written_instead: PlaceboSampler | None = None
        self.trial = self.ending = Insertion()
        self.readouts: list[str] = []

    def rule(self, rule: Rule, number: int, path: str) -> CompiledRule:
        if rule.do.control is not None:
            like = self._plain(rule.do.control.like, number, f"{path}.do.control.like")
            field = f"{path}.do.control.match"
            controlled, sampler = control_rule(rule.do.control, like, self.written, self.target, field)
            if controlled.action == Action.TREE:
                self.written_instead = sampler
            elif sampler is not None:
                self.placebo_samplers.append(sampler)
            return controlled
        return self._plain(rule, number, path)

    def _plain(self, rule: Rule, number: int, path: str) -> CompiledRule:
        when, field = with_families(rule.when), f"{path}.do.{rule.do.action}"
        if when.region != "any" and self.target.regions.unfollowed:
            raise InputError(f"{path}.when.region", self.target.regions.unfollowed)
        low, high = self._bounds(when, f"{path}.when")
        for name in ("end_of_reasoning_within", "end_of_reasoning_rank_below"):
            if getattr(when, name) is not None:
                self._need_end_token(f"{path}.when.{name}")
        if when.reads_rank and self.target.states_unreadable:
            bound = next(bound for bound in RANK_BOUNDS if getattr(when, bound) is not None)
            raise InputError(f"{path}.when.{bound}", f"needs hidden states: {self.target.states_unreadable}")
        first_position, last_position = self._positions(when, f"{path}.when")
        if rule.do.on_states is not None and rule.do.on_states.is_from_here:
            first_position = max(first_position, 1)  # at 0, the token before is the prompt's
            if last_position < first_position:
                raise InputError(
                    f"{path}.when.before_token",
                    "leaves only position 0, and the token before it is the prompt's, whose states no rule changes",
                )
        previous = self.sets.tokens(when.previous, f"{path}.when.previous") if when.previous is not None else TokenSet()
        conditions: dict[str, Any] = {
            "number": number,
            "low": low,
            "high": high,
            "probability": self._curve(when.probability),
            "mass": self.sets.words(when, f"{path}.when.words")
            if when.connector_probability_above is not None
            else TokenSet(),
            "since": self.sets.words(when, f"{path}.when.words")
            if when.since_connector_below is not None
            else TokenSet(),
            "since_below": when.since_connector_below or UNLIMITED,
            "previous": previous,
            "needs_previous": when.previous is not None,
            "window": when.confidence_window if when.confidence_below is not None else 0,
            "entropy_window": when.mean_entropy_window if when.mean_entropy_below is not None else 0,
            "rank_window": when.rank_window if when.reads_rank else 0,
            "rank_stride": when.rank_stride if when.reads_rank else 0,
            "at_temperature": when.at_temperature or 1.0,
            "region": RegionCode[when.region.upper()],
            "first_position": first_position,
            "last_position": last_position,
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
                "strength": self._curve(do.suppress.bias or 0.0),
                "target": (self.sets.tokens if action == Action.MASK else self.sets.biased)(do.suppress, field),
            }
        if do.amplify is not None:
            return {
                "action": Action.BIAS,
                "strength": self._curve(do.amplify.bias),
                "target": self.sets.biased(do.amplify, field),
            }
        if do.temperature is not None:
            return {
                "action": Action.TEMPERATURE if do.temperature != 0 else Action.LIKELIEST,
                "strength": self._curve(do.temperature),
            }
        if do.truncate is not None:
            return {"action": Action[do.truncate.kind.upper()], "strength": _constant(self._cut(do.truncate, field))}
        if do.observe is not None:
            return {"action": Action.OBSERVE, "strength": _constant(0.0)}
        if do.steer is not None:
            return {
                "action": Action.STEER,
                "strength": self._curve(do.steer.scale),
                "vector": self._vector(do.steer, field),
                "num_tokens": do.steer.tokens,
                "from_here": do.steer.is_from_here,
            }
        if do.recycle is not None:
            return {
                "action": Action.RECYCLE,
                "strength": _constant(1.0),
                "layer": self._layer(do.recycle, field),
                "num_tokens": do.recycle.tokens,
                "from_here": do.recycle.is_from_here,
            }
        if do.action in ACTIONS:
            return {
                "action": Action.DECLARED,
                "strength": _constant(0.0),
                "declared": do.action,
                "parameters": self._parameters(do.action, getattr(do, do.action)),
            }
        if do.tree_action is not None:
            self.written = self._written(do.tree_action, field)
            nowhere = {"at_most": 0} if isinstance(do.tree_action, Sample | Resume) else {}
            return {"action": Action.TREE, "strength": _constant(0.0), **nowhere}
        return {
            "action": Action.FORCE,
            "strength": _constant(0.0),
            **self._forced(do.force or do.end_reasoning or do.stop, field),
        }

    def _parameters(self, name: str, fields: Fields) -> list[float]:
        """The numbers of an action that is a file of its own."""
        known = ServedNumbers(self.target.fork_threshold, self.target.vocabulary.size)
        return [float(number) for number in ACTIONS[name].compile(fields, known)]

    def _vector(self, steer: Steer, field: str) -> str:
        """The digest of the vector that a rule adds. Raises InputError where the server cannot add it."""
        hooked, known = self.target.hidden_layers, self.target.artefacts
        if not hooked:
            raise InputError(
                field, "needs a server that was started with --hidden-layers, and the layers of the vector"
            )
        vectors = [name for name, artefact in known.items() if artefact.kind == "vector"]
        if not vectors:
            raise InputError(f"{field}.vector", "this server has no vectors (--vectors, PUT /v1/vectors/NAME)")
        if steer.vector not in vectors:
            raise InputError(f"{field}.vector", unknown_name("vector", steer.vector, vectors, "GET /v1/vectors"))
        missing = [layer for layer in known[steer.vector].layers if layer not in hooked]
        if missing:
            raise InputError(
                f"{field}.vector",
                f"{steer.vector!r} is for layer {missing[0]}, which is not hooked: this server was started with "
                f"--hidden-layers {','.join(map(str, hooked))}",
            )
        return known[steer.vector].digest

    def _layer(self, recycle: Recycle, field: str) -> int:
        """The layer that a rule runs again. Raises InputError where the server cannot."""
        possible = self.target.recycle_layers
        if not possible:
            raise InputError(
                field, f"needs a server that was started with --recycle-layers, {recycle.layer} among them"
            )
        if recycle.layer not in possible:
            raise InputError(
                f"{field}.layer",
                f"layer {recycle.layer} cannot be run again: this server was started with --recycle-layers "
                f"{','.join(map(str, possible))}",
            )
        return recycle.layer

    def _forced(self, action: Force | EndReasoning | Stop | None, field: str) -> dict[str, Any]:
        assert action is not None
        if isinstance(action, EndReasoning):
            text = self._need_reasoning_end(field)
            if action.before:
                text = [*self._text(action.before, f"{field}.before"), *text]
            if action.after:
                text = [*text, *self._text(action.after, f"{field}.after")]
            if len(text) > MAX_FORCED:
                raise InputError(field, f"writes {len(text)} tokens of the served model; {MAX_FORCED} at most")
        elif isinstance(action, Stop):
            text = [self.target.stop]
            if self.target.stop == NO_TOKEN:
                raise InputError(field, "cannot be done: the served model has no token that ends its text")
        else:
            text = self._text(action.text, f"{field}.text")
        if action.instead_of is None:
            return {"text": text}
        if action.instead_of == "end_of_reasoning":
            return {"text": text, "instead": True, "target": self._end_of_reasoning(f"{field}.instead_of")}
        return {"text": text, "instead": True, "target": self.sets.tokens(action.instead_of, f"{field}.instead_of")}

    def _written(self, action: TreeAction, field: str) -> list[int]:
        """What further requests start with: a probe's end of the reasoning and text, or the text that an answer goes on
        with."""
        if isinstance(action, Probe):
            self._read_probe(action, field)
            return list(self.trial.tokens)
        if not isinstance(action, Resume):
            return []
        if action.final is not None:
            self.final = self._text(action.final.text, f"{field}.final.text")
        return self._text(action.text, f"{field}.text")

    def _read_probe(self, probe: Probe, field: str) -> None:
        """What a probe writes before its trial answers, and where it ends the reasoning."""
        if probe.place == "reasoning":
            text = self._text(probe.text, f"{field}.text", MAX_WRITTEN) if probe.text else []
            self.trial = Insertion(probe.text, tuple(text))
            self.ending = Insertion(marker=tuple(self._need_reasoning_end(field)))
        else:
            self.trial = self.ending = self._around_end(probe.before, probe.text, field, after_name="text")
            if not probe.text and (probe.probability_above is not None or probe.agreement is not None):
                self.warnings.append(
                    f"{field}.text is empty, so that what the model says first after its reasoning is tried, its "
                    "result or not; a text that requests the result is surer"
                )
        for name in ("end_of_reasoning_within", "end_of_reasoning_ranks"):
            if getattr(probe, name) is not None:
                self._need_end_token(f"{field}.{name}")
        if (end := probe.end_reasoning) is not None:
            self.ending = self._around_end(end.before, end.after, f"{field}.end_reasoning")
            if end.stop and self.target.stop == NO_TOKEN:
                raise InputError(
                    f"{field}.end_reasoning.stop", "cannot be done: the served model has no token that ends its text"
                )

    def _around_end(self, before: str, after: str, field: str, after_name: str = "after") -> Insertion:
        """The end of the reasoning between two texts of a probe. Raises InputError for one that cannot be written."""
        marker = tuple(self._need_reasoning_end(field))
        written = after.replace(ANSWER, "")
        before_tokens = self._text(before, f"{field}.before", MAX_WRITTEN) if before else []
        after_tokens = self._text(written, f"{field}.{after_name}", MAX_WRITTEN) if written else []
        return Insertion(before, tuple(before_tokens), marker, after, tuple(after_tokens))

    def _text(self, text: str, field: str, most: int = MAX_FORCED) -> list[int]:
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
        if len(tokens) > most:
            raise InputError(field, f"is {len(tokens)} tokens for the served model; {most} at most")
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

    def _end_of_reasoning(self, field: str) -> TokenSet:
        """The tokens at which the end of the reasoning is decided."""
        end = self._need_reasoning_end(field)
        if self.marker is None:
            return TokenSet([end[0]], [ANY_STATE])
        entries = marker_tokens(end, self.marker, self.automaton, self.target.vocabulary)
        acts_on = {self.target.vocabulary.tokens[token].decode(errors="replace") for _, token in entries}
        self.warnings.append(
            f"{field}: the end of the reasoning is {len(end)} tokens for this model; the rule acts on the one that "
            f"decides it: {', '.join(map(repr, sorted(acts_on)[:4]))}"
        )
        return TokenSet([token for _, token in entries], [state for state, _ in entries])

    def _need_end_token(self, field: str) -> int:
        """The token whose rank or distance is that of the end of the reasoning."""
        end = self._need_reasoning_end(field)
        if self.target.reasoning_end == NO_TOKEN:
            first = self.target.vocabulary.tokens[end[0]].decode(errors="replace")
            raise InputError(
                field,
                f"needs a token with which only the end of the reasoning begins; this model writes {len(end)} tokens, "
                f"and other texts begin with the first, {first!r}",
            )
        return self.target.reasoning_end

    def _positions(self, when: When, path: str) -> tuple[int, int]:
        """The first and the last position at which a rule may act."""
        first = 0 if when.after_token is None else self._tokens_of(when.after_token)
        if when.before_token is None:
            return first, UNLIMITED
        end = self._tokens_of(when.before_token)
        if first >= end and when.after_token is not None:
            raise InputError(path, f"no position is both after_token {first} and before_token {end} of this model")
        for name, width in when.windows.items():
            if width > end:
                raise InputError(
                    f"{path}.{name}", f"is {width} tokens, which is never full before before_token {end}; at most {end}"
                )
        return first, end - 1

    def _tokens_of(self, length: int | ReasoningLengths) -> int:
        """A number of tokens; lengths of the reasoning by the served model's calibration."""
        if not isinstance(length, ReasoningLengths):
            return length
        mean = self.target.mean_reasoning_tokens
        if not mean:
            mean = float(DEFAULT_REASONING_TOKENS)
            self.warnings.append(
                f"the mean length of this model's reasoning is not calibrated; {DEFAULT_REASONING_TOKENS} tokens is "
                "used (forkpoint calibrate measures it)"
            )
        return max(1, round(length.reasoning_lengths * mean))

    def _curve(
        self, value: float | Schedule | EntropyTemperature | NormalizedEntropyTemperature | EntropyScale
    ) -> Curve:
        if isinstance(value, EntropyTemperature):
            return Curve(Shape.ENTROPY, value.scale, value.base, value.exponent)
        if isinstance(value, NormalizedEntropyTemperature | EntropyScale):
            largest = math.log(max(2, self.target.vocabulary.size))
            return Curve(Shape.POWER, value.low, (value.high - value.low) / largest**value.exponent, value.exponent)
        if isinstance(value, Schedule) and value.shape == "linear":
            over = self._tokens_of(value.over or 1)
            return Curve(Shape.LINEAR, value.start or 0.0, value.end or 0.0, float(over))
        if isinstance(value, Schedule):
            return Curve(Shape.TRIANGULAR, float(value.amplitude or 0.0), float(value.period or 0.0))
        return _constant(value)

    def _readout_limits(self, when: When, path: str) -> Iterator[tuple[Signal, float | None, float | None]]:
        """The bounds on readouts. Raises InputError for an unknown readout, and for too many."""
        for field in READOUT_BOUNDS:
            bound: ReadoutBound | None = getattr(when, field)
            if bound is None:
                continue
            self._check_readout(bound, f"{path}.{field}")
            if bound.name not in self.readouts:
                self.readouts.append(bound.name)
            if len(self.readouts) > MAX_READOUTS:
                raise InputError(f"{path}.{field}.name", f"is one readout too many; a policy names {MAX_READOUTS}")
            signal = Signal(Signal.READOUT_1 + self.readouts.index(bound.name))
            yield (signal, bound.value, None) if field == "readout_above" else (signal, None, bound.value)

    def _check_readout(self, bound: ReadoutBound, path: str) -> None:
        if self.target.states_unreadable:
            raise InputError(path, f"needs hidden states: {self.target.states_unreadable}")
        names = sorted(name for name, one in self.target.artefacts.items() if one.kind == "readout")
        if bound.name not in names:
            if bound.name in self.target.artefacts:
                problem = f"{bound.name!r} is a vector, which has no value; name a readout"
            elif names:
                problem = unknown_name("readout", bound.name, names, "GET /v1/vectors lists them")
            else:
                problem = f"there is no readout {bound.name!r}; none is stored: store one with PUT /v1/vectors/NAME"
            raise InputError(f"{path}.name", problem)
        if self.target.artefacts[bound.name].output == "probability" and not 0 <= bound.value <= 1:
            problem = f"must be from 0 to 1, not {bound.value:g}: {bound.name!r} is a probability"
            raise InputError(f"{path}.value", problem)

    def _bounds(self, when: When, path: str) -> tuple[list[float], list[float]]:
        low, high = [-math.inf] * len(Signal), [math.inf] * len(Signal)
        limits = (
            (Signal.ENTROPY, when.entropy_above, when.entropy_below),
            (Signal.VARENTROPY, when.varentropy_above, when.varentropy_below),
            (Signal.TOP_PROBABILITY, when.top_probability_above, when.top_probability_below),
            (Signal.MASS, when.connector_probability_above, None),
            (Signal.RANK, when.entropy_quantile_above, None),
            (Signal.CONFIDENCE, None, when.confidence_below),
            (Signal.MEAN_ENTROPY, None, when.mean_entropy_below),
            (Signal.END_RANK, None, when.end_of_reasoning_rank_below),
            (Signal.EFFECTIVE_RANK, when.effective_rank_above, when.effective_rank_below),
            (Signal.RANK_VELOCITY, when.effective_rank_velocity_above, when.effective_rank_velocity_below),
            (Signal.RANK_ACCELERATION, when.effective_rank_acceleration_above, when.effective_rank_acceleration_below),
            *self._readout_limits(when, path),
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


def _constant(value: float) -> Curve:
    return Curve(Shape.CONSTANT, float(value))
