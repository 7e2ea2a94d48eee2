"""Policy + vocabulary -> Program: token ids, numbers and an automaton, ready for the kernel and small enough to travel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Literal

import msgspec
import numpy as np

from .connectors import FAMILIES
from .spec import Do, Policy, PolicyError, Rule, Tokens, When
from .vocabulary import Vocabulary
from .words import ANY_STATE, FREE, INSIDE, Automaton, Completion, build_automaton

NO_TOKEN = -1
UNLIMITED = 2**31 - 1
MOST_WORDS = 512


class Action(IntEnum):
    """What a rule does, in the order in which the actions of one position are applied."""

    OBSERVE = 0
    MASK = 1
    BIAS = 2
    TEMPERATURE = 3


class RegionCode(IntEnum):
    ANY = 0
    REASONING = 1
    ANSWER = 2


class TokenSet(msgspec.Struct, frozen=True):
    """Tokens, each with the state of the word automaton in which it belongs to the set (ANY_STATE: in every state)."""

    tokens: list[int] = []
    states: list[int] = []


class CompiledRule(msgspec.Struct, frozen=True):
    """A rule as numbers. `number` is its place in the policy; open bounds are infinite."""

    number: int
    action: int
    target: TokenSet
    mass: TokenSet
    strength: float  # the bias, or the temperature's factor
    entropy_above: float
    entropy_below: float
    varentropy_above: float
    varentropy_below: float
    top_probability_above: float
    top_probability_below: float
    mass_above: float
    region: int
    first_position: int
    last_position: int
    at_most: int


class Program(msgspec.Struct, frozen=True):
    """A compiled policy. `word_free` has a bit per token: may a word begin after it; empty when the policy names no words."""

    rules: list[CompiledRule]
    shadow: bool
    reasoning_start: int
    reasoning_end: int
    moves: list[tuple[int, int, int]]
    tails: list[tuple[int, int]]
    word_free: bytes

    def follow(self, tokens: Iterable[int], word_state: int = FREE, in_reasoning: bool = True) -> tuple[int, bool]:
        """The automaton's state and whether the reasoning goes on after these tokens; what the kernel does, on the host."""
        moves = {(state, token): after for state, token, after in self.moves}
        tails = dict(self.tails)
        free = np.unpackbits(np.frombuffer(self.word_free, np.uint8), bitorder="little") if self.word_free else None
        for token in tokens:
            if token == self.reasoning_start:
                in_reasoning = True
            elif token == self.reasoning_end:
                in_reasoning = False
            if free is not None:
                default = tails.get(token, FREE if free[token] else INSIDE)
                word_state = moves.get((word_state, token), default)
        return word_state, in_reasoning

    def pack(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def unpack(data: bytes) -> Program:
        return msgspec.msgpack.decode(data, type=Program)


def key_of(packed: bytes) -> str:
    """The name under which a worker keeps a program."""
    return sha256(packed).hexdigest()


@dataclass(frozen=True)
class Target:
    """What a policy is compiled for: the served model's vocabulary, its reasoning markers, and its fork threshold in nats."""

    vocabulary: Vocabulary
    fork_threshold: float
    reasoning_start: int = NO_TOKEN
    reasoning_end: int = NO_TOKEN


@dataclass(frozen=True)
class Compiled:
    """A program with what a user may want to know of it: the tokens that each rule names, and warnings."""

    program: Program
    warnings: tuple[str, ...]


def compile_policy(policy: Policy, target: Target, path: str = "policy") -> Compiled:
    """Turn a policy into a program. Raises PolicyError where the vocabulary cannot express it."""
    warnings: list[str] = []
    words = sorted({word for rule in policy.rules for tokens in _token_sets(rule) for word in named_words(tokens)})
    if len(words) > MOST_WORDS:
        raise PolicyError(f"{path}.rules", f"name {len(words)} different words; {MOST_WORDS} at most")
    automaton = _automaton(policy, words, target.vocabulary, path)
    rules = [
        _compile_rule(rule, number, target, automaton, f"{path}.rules[{number}]", warnings)
        for number, rule in enumerate(policy.rules)
    ]
    if target.reasoning_end == NO_TOKEN and any(rule.when.region != "any" for rule in policy.rules):
        warnings.append(
            "the server was started without --reasoning-parser (or with one whose markers are not single tokens), so all "
            "generated text counts as reasoning"
        )
    program = Program(
        rules=sorted(rules, key=lambda rule: rule.action),  # a stable sort: within an action, the policy's order
        shadow=policy.shadow,
        reasoning_start=target.reasoning_start,
        reasoning_end=target.reasoning_end,
        moves=[(state, token, after) for (state, token), after in automaton.moves.items()],
        tails=list(automaton.tails.items()),
        word_free=np.packbits(target.vocabulary.index.ends_word_free, bitorder="little").tobytes() if words else b"",
    )
    return Compiled(program, tuple(dict.fromkeys(warnings)))


def named_words(tokens: Tokens | When) -> tuple[str, ...]:
    """The words that a set of tokens or a condition stands for: those of its families, and its own."""
    words = tuple(word for family in tokens.connectors for word in FAMILIES[family])
    return words + (tokens.words if isinstance(tokens, Tokens) else ())


def _token_sets(rule: Rule) -> list[Tokens | When]:
    return [tokens for tokens in (rule.when, rule.do.suppress, rule.do.amplify) if tokens is not None]


def _automaton(policy: Policy, words: Sequence[str], vocabulary: Vocabulary, path: str) -> Automaton:
    if not words:
        return Automaton(0, {}, {}, {})
    try:
        return build_automaton(words, vocabulary)
    except PolicyError as error:
        for number, rule in enumerate(policy.rules):  # again, one by one, to name the field
            for part, tokens in (("when", rule.when), ("do.suppress", rule.do.suppress), ("do.amplify", rule.do.amplify)):
                if tokens is not None:
                    _check_words(tokens, vocabulary, f"{path}.rules[{number}].{part}")
        raise PolicyError(f"{path}.rules", f"their words together {error.message}") from None


def _check_words(tokens: Tokens | When, vocabulary: Vocabulary, field: str) -> None:
    if isinstance(tokens, Tokens):
        build_automaton(tokens.words, vocabulary, f"{field}.words")
    for number, family in enumerate(tokens.connectors):
        try:
            build_automaton(FAMILIES[family], vocabulary)
        except PolicyError as error:
            raise PolicyError(f"{field}.connectors[{number}]", error.message) from None


def _compile_rule(rule: Rule, number: int, target: Target, automaton: Automaton, path: str, warnings: list[str]) -> CompiledRule:
    when = rule.when
    action, strength, named = _action(rule.do)
    entries: dict[Completion, None] = {}
    if named is not None:
        field = f"{path}.do.{rule.do.action}"
        target.vocabulary.check_ids(named.token_ids, f"{field}.token_ids")
        entries = _completions(named_words(named), automaton)
        entries |= dict.fromkeys((ANY_STATE, token) for token in named.token_ids)
        if rule.do.amplify is not None:
            entries |= _beginnings(named_words(named), automaton, field, warnings)
    mass = _completions(named_words(when), automaton)
    infinity = float("inf")

    def bound(value: float | Literal["fork"] | None, otherwise: float) -> float:
        if value is None:
            return otherwise
        return target.fork_threshold if value == "fork" else float(value)

    return CompiledRule(
        number=number,
        action=action,
        target=_token_set(entries),
        mass=_token_set(mass),
        strength=strength,
        entropy_above=bound(when.entropy_above, -infinity),
        entropy_below=bound(when.entropy_below, infinity),
        varentropy_above=bound(when.varentropy_above, -infinity),
        varentropy_below=bound(when.varentropy_below, infinity),
        top_probability_above=bound(when.top_probability_above, -infinity),
        top_probability_below=bound(when.top_probability_below, infinity),
        mass_above=bound(when.connector_probability_above, -infinity),
        region=RegionCode[when.region.upper()],
        first_position=0 if when.after_token is None else when.after_token,
        last_position=UNLIMITED if when.before_token is None else when.before_token - 1,
        at_most=UNLIMITED if when.at_most is None else when.at_most,
    )


def _action(do: Do) -> tuple[Action, float, Tokens | None]:
    if do.suppress is not None:
        bias = do.suppress.bias
        return (Action.MASK, 0.0, do.suppress) if bias is None else (Action.BIAS, bias, do.suppress)
    if do.amplify is not None:
        return Action.BIAS, do.amplify.bias, do.amplify
    if do.temperature is not None:
        return Action.TEMPERATURE, do.temperature, None
    return Action.OBSERVE, 0.0, None


def _token_set(entries: Iterable[Completion]) -> TokenSet:
    """Each (state, token) once; a token that belongs in every state is not listed for single states again."""
    everywhere = {token for state, token in entries if state == ANY_STATE}
    kept = sorted((s, t) for s, t in set(entries) if s == ANY_STATE or t not in everywhere)
    return TokenSet([token for _, token in kept], [state for state, _ in kept])


def _completions(words: Iterable[str], automaton: Automaton) -> dict[Completion, None]:
    return dict.fromkeys(entry for word in words for entry in automaton.completions[word])


def _beginnings(words: Iterable[str], automaton: Automaton, field: str, warnings: list[str]) -> dict[Completion, None]:
    """For words that are never one token, the tokens that begin them: raising only their last piece would do nothing."""
    found: dict[Completion, None] = {}
    for word in words:
        if any(state in (ANY_STATE, FREE) for state, _ in automaton.completions[word]):
            continue
        reached = automaton.longest_beginning(word)
        found |= dict.fromkeys(reached)
        if reached:
            warnings.append(f"{field}: {word!r} is several tokens for this model; the tokens that begin it are raised too")
    return found


def describe(tokens: TokenSet, vocabulary: Vocabulary, decode: Callable[[bytes], str]) -> list[dict[str, int | str | bool]]:
    """The tokens of a set for a reader: id, text, and whether it counts only after certain tokens."""
    return [
        {"id": token, "token": decode(vocabulary.tokens[token]), "in_every_context": state == ANY_STATE}
        for token, state in zip(tokens.tokens, tokens.states, strict=True)
    ]
