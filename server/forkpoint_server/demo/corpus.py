"""The training text: how one reasons about a Countdown puzzle, sampled at random.

A trace is a search that one can read: plan a first step, carry it out, look at the result, then go back ("Wait",
"Alternatively", "Hmm", "Instead") or conclude ("So", "Therefore"). We put the roles of these connectors in here; they
do not emerge.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from forkpoint_policies.tasks.countdown import Puzzle, combine, reachable

SLIP = 0.04
CLOSEST = 0.85
FORGET_THEREFORE = 0.04
HOPE = 0.8  # "So" before a last step that hits …
FALSE_HOPE = 0.1  # … and before one that misses: without these, a model that has said "So" always writes the target
BIND = {"+": 1, "-": 1, "*": 2, "/": 2}


@dataclass(frozen=True)
class Term:
    """A value on the table and the expression that made it."""

    value: int
    text: str
    binding: int = 3


@dataclass(frozen=True)
class Step:
    left: Term
    sign: str
    right: Term
    value: int

    @property
    def key(self) -> tuple[int, str, int]:
        return min(self.left.value, self.right.value), self.sign, max(self.left.value, self.right.value)

    @property
    def pair(self) -> tuple[int, int]:
        return self.key[0], self.key[2]

    @property
    def equation(self) -> str:
        return f"{self.left.value} {self.sign} {self.right.value} ="

    @property
    def result(self) -> Term:
        binding = BIND[self.sign]
        left = f"({self.left.text})" if self.left.binding < binding else self.left.text
        tight = self.sign in "-/"
        wrap = self.right.binding < binding or (tight and self.right.binding == binding)
        right = f"({self.right.text})" if wrap else self.right.text
        return Term(self.value, f"{left} {self.sign} {right}", binding)


@dataclass
class ExampleTrace:
    """Pieces of text; a piece with `learn` False is a slip, which must be seen and not imitated."""

    pieces: list[tuple[str, bool]] = field(default_factory=list)
    answer: str = ""

    def say(self, text: str, learn: bool = True) -> None:
        self.pieces.append((text, learn))


def steps(terms: Sequence[Term]) -> list[tuple[Step, tuple[Term, ...]]]:
    """Every legal step, each with what is on the table after it: the new value first, then the rest."""
    found = []
    for i, j in itertools.combinations(range(len(terms)), 2):
        first, second = terms[i], terms[j]
        rest = tuple(term for k, term in enumerate(terms) if k not in (i, j))
        large, small = (first, second) if first.value >= second.value else (second, first)
        for sign in "+-*/":
            left, right = (first, second) if sign in "+*" else (large, small)
            value = combine(left.value, sign, right.value)
            if value is not None:
                step = Step(left, sign, right, value)
                found.append((step, (step.result, *rest)))
    return found


def _values(terms: Sequence[Term]) -> tuple[int, ...]:
    return tuple(sorted(term.value for term in terms))


def _weight(after: tuple[Term, ...], target: int) -> float:
    """A mild lookahead: steps that can still succeed are likelier, so that forks are uncertain but not blind."""
    reach = reachable(_values(after))
    hits = reach >> target & 1
    if len(after) > 2:
        return 6.0 if hits else 1.0
    distance = min((abs(value - target) for value in range(100) if reach >> value & 1), default=99)
    return (1.5 if hits else 1.0) * (0.4 + 0.6 * math.exp(-distance / 12))


def _carry_out(trace: ExampleTrace, opener: str, step: Step, target: int, last: bool, draw: random.Random) -> bool:
    """Write one step; a slip is written wrong first and then corrected. True when the target is reached."""
    trace.say(f"{opener} {step.equation}")
    if draw.random() < SLIP:
        wrong = step.value + draw.choice((-10, -2, -1, 1, 2, 10))
        if 0 <= wrong <= 99 and wrong != target:
            trace.say(f" {wrong}", learn=False)
            trace.say(f". Wait, that is wrong: {step.equation}")
    trace.say(f" {step.value}")
    if not last:
        trace.say(".")
        return False
    hit = step.value == target
    trace.say("." if hit else f", not {target}.")
    return hit


def _last_step(trace: ExampleTrace, terms: tuple[Term, ...], target: int, draw: random.Random) -> Term | None:
    """Try operations on the last two values until one hits or the reasoner turns away; the solution, or None."""
    choices = sorted(steps(terms), key=lambda choice: abs(choice[0].value - target))
    first = True
    while choices:
        at = 0 if draw.random() < CLOSEST else draw.randrange(len(choices))
        step, after = choices.pop(at)
        hopeful = draw.random() < (HOPE if step.value == target else FALSE_HOPE)
        if not first:
            trace.say(" Hmm, close." if abs(step.value - target) < 12 else " Hmm, no.")
        if _carry_out(trace, " So" if hopeful else " Then", step, target, True, draw):
            return after[0]
        first = False
        overlooked = any(step.value == target for step, _ in choices)
        if draw.random() > (0.75 if overlooked else 0.25):
            return None
    return None


def _search(trace: ExampleTrace, puzzle: Puzzle, draw: random.Random) -> Term | None:
    table = tuple(Term(number, str(number)) for number in puzzle.numbers)
    tried: set[tuple[tuple[int, str, int], ...]] = set()
    misses = 0
    opener, previous = "Let's try", None
    size = len(puzzle.numbers)
    first: tuple[Step, tuple[Term, ...]] | None = None
    while True:
        path: tuple[tuple[int, str, int], ...] = ()
        terms = table
        if first is not None:
            path, terms = (first[0].key,), first[1]
        while len(terms) > 2:
            options = [(step, after) for step, after in steps(terms) if (*path, step.key) not in tried]
            if opener == " Alternatively," and previous is not None and not path:
                options = [option for option in options if option[0].pair != previous] or options
            if not options:
                break
            weights = [_weight(after, puzzle.target) for _, after in options]
            chosen = draw.choices(options, weights)[0]
            _carry_out(trace, opener, chosen[0], puzzle.target, False, draw)
            if not path:
                first, previous = chosen, chosen[0].pair
            path, terms, opener = (*path, chosen[0].key), chosen[1], " Then"
        else:
            if not reachable(_values(terms)) >> puzzle.target & 1:
                tried.add(path)
            found = _last_step(trace, terms, puzzle.target, draw)
            if found is not None:
                return found
            misses += 1
        if len(terms) > 2 and not path:
            return None
        if misses >= 12 * (size - 2) and draw.random() < 0.02:
            return None
        again = size == 4 and len(terms) == 2 and draw.random() < 0.35
        if again:
            opener = " Instead,"
            continue
        if first is not None and size == 4 and len(terms) > 2:
            tried.add((first[0].key,))
        first = None
        opener = draw.choices((" Wait, try", " Alternatively,", " Let's try"), (0.50, 0.44, 0.06))[0]


def draw_trace(puzzle: Puzzle, draw: random.Random) -> ExampleTrace:
    """One way to reason about a solvable puzzle, ending in `Therefore EXPR works.` and the answer."""
    trace = ExampleTrace()
    found = _search(trace, puzzle, draw)
    if found is None:
        term = Term(puzzle.numbers[0], str(puzzle.numbers[0]))
        for number in puzzle.numbers[1:]:
            term = Step(term, draw.choice("+-"), Term(number, str(number)), 0).result
        trace.say(f" Maybe {term.text} is enough.")
        trace.answer = term.text
        return trace
    if draw.random() >= FORGET_THEREFORE:
        trace.say(f" Therefore {found.text} works.")
    trace.answer = found.text
    return trace
