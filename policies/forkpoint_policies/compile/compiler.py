"""Compiles a policy for a served model: words to token ids, names to numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from msgspec import structs

from forkpoint_policies.actions.definition import Place
from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.spec import MAX_RULES, InputError, Policy, Rule

from .compilation import Compilation
from .compiled_policy import CompiledPolicy
from .controls import control_rule
from .policy_words import named_words, policy_automaton
from .program import TRUNCATIONS, Action, CompiledRule, Program, Signal
from .rule_actions import action_of
from .rule_conditions import conditions_of
from .rule_conflicts import check_contradictions, check_overlaps, check_windows
from .served_model import ServedModel
from .token_sets import MAX_ENTRIES
from .word_automaton import NamedWord
from .written_texts import MAX_FORCED

__all__ = ["MAX_ENTRIES", "MAX_FORCED", "CompiledPolicy", "ServedModel", "compile_policy", "named_words"]

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
    build = Compilation(target, policy_automaton(policy, target.vocabulary, path, marker), marker)
    rules = [_compile_rule(build, rule, number, f"{path}.rules[{number}]") for number, rule in enumerate(policy.rules)]
    by_rank = [one for number, rule in enumerate(policy.rules) for one in _rank_rules(rule, rules[number])]
    rules += [rule for _, rule in by_rank]
    if len(rules) > MAX_RULES:
        raise InputError(
            f"{path}.rules", f"take {len(rules)} rules of the kernel with a probe's ranks; {MAX_RULES} at most"
        )
    check_contradictions(policy, build.sets, path)
    check_overlaps(rules, path)
    check_windows(rules, path)
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


def _compile_rule(build: Compilation, rule: Rule, number: int, path: str) -> CompiledRule:
    if rule.do.control is None:
        return _compile_plain(build, rule, number, path)
    like = _compile_plain(build, rule.do.control.like, number, f"{path}.do.control.like")
    controlled, sampler = control_rule(rule.do.control, like, build.written, build.target, f"{path}.do.control.match")
    if controlled.action == Action.TREE:
        build.written_instead = sampler
    elif sampler is not None:
        build.placebo_samplers.append(sampler)
    return controlled


def _compile_plain(build: Compilation, rule: Rule, number: int, path: str) -> CompiledRule:
    conditions = conditions_of(build, rule, number, f"{path}.when")
    return CompiledRule(**{**conditions, **action_of(build, rule.do, f"{path}.do.{rule.do.action}")})


def _place(rule: CompiledRule) -> int:
    """When a rule is applied. What is decided before the model computes a position comes first."""
    if rule.from_here or rule.action == Action.RECYCLE_AGAIN:
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
