"""Which parts of the language programs use: what none of a batch uses costs nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.compile.program import MARKS, Action, CompiledRule, ControlKind, Curve, Program, Shape, Signal


@dataclass(frozen=True)
class Uses:
    """Which parts of the language some programs use; what none uses costs nothing."""

    marks: bool
    texts: bool
    instead: bool
    chances: bool
    history: bool
    window: bool
    coins: bool
    since: bool
    branches: bool
    signals: tuple[int, ...]
    entropies: bool = False
    action_states: bool = False  # of actions that are files of their own

    @staticmethod
    def of(programs: Iterable[Program]) -> Uses:
        rules = [rule for program in programs for rule in program.rules]
        chances = any(rule.control == ControlKind.POSITIONS for rule in rules)
        bounded = {Signal.ENTROPY, *(signal for signal in Signal if any(rule.bounds(signal) for rule in rules))}
        return Uses(
            marks=any(rule.needs_previous or rule.since.tokens for rule in rules),
            texts=any(rule.action == Action.FORCE for rule in rules),
            instead=any(rule.instead for rule in rules),
            chances=chances,
            history=Signal.RANK in bounded or any(_draws_entropy(rule) for rule in rules),
            window=Signal.CONFIDENCE in bounded,
            coins=any(rule.probability != Curve(Shape.CONSTANT, 1.0) for rule in rules),
            since=any(rule.since.tokens for rule in rules),
            branches=any(rule.action == Action.TREE for rule in rules),
            signals=tuple(sorted(bounded)),
            entropies=Signal.MEAN_ENTROPY in bounded,
            action_states=any(rule.declared and ACTIONS[rule.declared].state_size for rule in rules),
        )


def _draws_entropy(rule: CompiledRule) -> bool:
    by_entropy = rule.strength.shape in (Shape.ENTROPY, Shape.POWER) or rule.action == Action.DECLARED
    return rule.control == ControlKind.POSITIONS and by_entropy


@dataclass(frozen=True)
class Acting:
    """An action of a program on the logits. `again`: a rule before it may have changed the distribution. `displaced`:
    a placebo changes other tokens instead, by probability or (`spread`) by dose."""

    rule: int
    action: Action
    again: bool
    displaced: bool
    keep: int = 0  # the k of a top-k
    spread: bool = False
    declared: str = ""  # the name of an action that is a file of its own


@dataclass(frozen=True)
class Facts:
    """What a batch needs to know of a program on the host: which parts its rows take part in."""

    acting: tuple[Acting, ...]
    shutting: tuple[Acting, ...]  # the forces that replace tokens that must not be sampled
    windowed: bool
    forcing: bool
    temperatures: frozenset[float] = frozenset()  # other than 1, at which some rule bounds entropies

    @staticmethod
    def of(program: Program) -> Facts:
        acting: list[Acting] = []
        for index, rule in enumerate(program.rules):
            if rule.action not in (*MARKS, Action.FORCE):
                keep = int(rule.strength.a) if rule.action == Action.TOP_K else 0
                displaced = rule.control in (ControlKind.PROBABILITY, ControlKind.DOSE)
                spread = rule.control == ControlKind.DOSE
                acting.append(Acting(index, Action(rule.action), bool(acting), displaced, keep, spread, rule.declared))
        instead = [
            index for index, rule in enumerate(program.rules) if rule.instead and rule.control != ControlKind.POSITIONS
        ]
        return Facts(
            tuple(acting),
            tuple(Acting(index, Action.FORCE, again=False, displaced=False) for index in instead),
            windowed=any(rule.window for rule in program.rules),
            forcing=any(rule.action == Action.FORCE for rule in program.rules),
            temperatures=frozenset(rule.at_temperature for rule in program.rules) - {1.0},
        )
