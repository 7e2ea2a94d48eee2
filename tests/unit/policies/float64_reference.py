"""What one step must do to one row, written plainly in float64 and one token at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.program import Action, CompiledRule, Program, RegionCode, TokenSet
from forkpoint_policies.compile.word_automaton import ANY_STATE

Floats = NDArray[np.float64]
Logits = NDArray[np.float32]


def distribution(logits: Logits, temperature: float = 1.0) -> Floats:
    """The probabilities; all 0 for a row of -inf only."""
    scaled = logits.astype(np.float64) / temperature
    if np.isneginf(scaled).all():
        return np.zeros(len(scaled))
    weights = np.exp(scaled - scaled.max())
    return np.asarray(weights / weights.sum(), np.float64)


def entropy(probabilities: Floats) -> float:
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())


def varentropy(probabilities: Floats) -> float:
    some = probabilities[probabilities > 0]
    surprise = -np.log(some)
    return float((some * (surprise - entropy(probabilities)) ** 2).sum())


def distance(one: Floats, other: Floats) -> float:
    """The total variation distance."""
    return float(np.abs(one - other).sum() / 2)


@dataclass(frozen=True)
class Situation:
    """Where a request is: the automaton's state, the region, the position, how often each rule fired, and its
    temperature."""

    word_state: int
    in_reasoning: bool = True
    position: int = 0
    counts: tuple[int, ...] = (0,) * 16
    temperature: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """`masses`, `fired` and `effects` are per rule, in the program's order."""

    logits: Logits
    entropy: float
    varentropy: float
    top_probability: float
    masses: list[float]
    fired: list[bool]
    effects: list[float]
    left_alone: bool


def expected(program: Program, logits: Logits, at: Situation) -> Outcome:
    """The outcome of one step for a request with this program."""
    raw = distribution(logits)
    masses = [float(sum(raw[token] for token in counting(rule.mass, at.word_state))) for rule in program.rules]
    seen = (entropy(raw), varentropy(raw), float(raw.max()))
    decided = [
        fires(rule, seen, mass, at, count) for rule, mass, count in zip(program.rules, masses, at.counts, strict=False)
    ]
    now, left_alone, changes = logits.copy(), False, []
    for rule, yes in zip(program.rules, decided, strict=True):
        after = act(rule, now, at.word_state) if yes else now
        if np.isneginf(after).all() and not np.isneginf(now).all():
            after, left_alone = now, True
        changes.append(effect(now, after, at.temperature))
        now = after
    return Outcome(now if not program.shadow else logits, *seen, masses, decided, changes, left_alone)


def counting(tokens: TokenSet, word_state: int) -> list[int]:
    return [
        token for token, state in zip(tokens.tokens, tokens.states, strict=True) if state in (ANY_STATE, word_state)
    ]


def fires(rule: CompiledRule, seen: tuple[float, float, float], mass: float, at: Situation, count: int) -> bool:
    region = RegionCode.REASONING if at.in_reasoning else RegionCode.ANSWER
    return (
        all(low < value < high for low, value, high in zip(rule.low, (*seen, mass), rule.high, strict=False))
        and rule.first_position <= at.position <= rule.last_position
        and rule.region in (RegionCode.ANY, region)
        and count < rule.at_most
    )


def act(rule: CompiledRule, logits: Logits, word_state: int) -> Logits:
    """The logits after a rule; in float32, as they must be exact."""
    after = logits.copy()
    if rule.action == Action.TEMPERATURE:
        return after / np.float32(rule.strength.a)
    for token in counting(rule.target, word_state):
        after[token] = -np.inf if rule.action == Action.MASK else after[token] + np.float32(rule.strength.a)
    return after


def effect(before: Logits, after: Logits, temperature: float) -> float:
    """The total variation between the sampling distributions; if greedy (temperature 0), 1 if the token changes."""
    if temperature == 0:
        return float(before.argmax() != after.argmax())
    return distance(distribution(before, temperature), distribution(after, temperature))
