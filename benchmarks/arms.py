"""Servers under the same load, round robin (A B C D A B C D …), so that other work on the machine affects all alike."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

from .request_load import Json, Speed, measure
from .servers import ServerProcess
from .tables import Ratio, Row

MIN_WAVES, MAX_WAVES = 1, 40
COLUMNS = ("tokens/s ÷ stock's", "stock's time between tokens ÷ its", "stock's CPU time ÷ its")


@dataclass(frozen=True)
class Arm:
    """A server, the policies that its requests name in turn, and the least share of stock's throughput to reach."""

    name: str
    server: ServerProcess
    policies: tuple[str, ...] = ()
    goal: float | None = None


@dataclass(frozen=True)
class Plan:
    """How long to measure: rounds, and about how many seconds for one load."""

    rounds: int
    seconds: float


@dataclass(frozen=True)
class Load:
    """The requests: `bodies(n)` are n requests, the same for each arm and round."""

    what: str
    concurrency: int
    bodies: Callable[[int], list[Json]]


@dataclass(frozen=True)
class Cost:
    """What one load took."""

    speed: Speed
    processor_seconds: float

    def ratios(self, stock: Cost) -> tuple[float | None, ...]:
        """Set against stock under the same load, by the COLUMNS."""
        own, theirs = self.speed, stock.speed
        between = None
        if own.between_tokens and theirs.between_tokens:
            between = theirs.between_tokens / own.between_tokens
        processor = (stock.processor_seconds / theirs.tokens) / (self.processor_seconds / own.tokens)
        return own.tokens_per_second / theirs.tokens_per_second, between, processor


def arms_of(
    stock: ServerProcess, forkpoint: ServerProcess, goals: Mapping[tuple[str, ...], float | None]
) -> tuple[list[Arm], list[str]]:
    """An arm for each group of policies (empty: requests without one), between stock and stock again; and notes.

    What differs between the two stocks is noise. A group with a policy that is not served is left out, and noted.
    """
    served = forkpoint.policies()
    missing = {policies: sorted(set(policies) - served) for policies in goals}
    named = [
        Arm(_name(policies), forkpoint, policies, goal) for policies, goal in goals.items() if not missing[policies]
    ]
    notes = [
        f"`{_name(policies)}` was skipped: this Forkpoint does not serve {', '.join(names)}."
        for policies, names in missing.items()
        if names
    ]
    return [Arm("stock", stock), *named, Arm("stock, again", stock)], notes


def _name(policies: tuple[str, ...]) -> str:
    return f"a mix of {len(policies)}" if len(policies) > 1 else policies[0] if policies else "no policy"


def compare(load: Load, arms: Sequence[Arm], plan: Plan) -> list[Row]:
    """Put each arm under the load, round by round, and compare it with the first (mostly stock) in the same round."""
    for arm in arms:  # everything compiled, cached or read at a first request
        warm = _run(load, arm, 1)  # the last one, the first's second time, sets the length
    waves = min(MAX_WAVES, max(MIN_WAVES, round(plan.seconds / warm.speed.seconds)))
    costs: dict[str, list[Cost]] = {arm.name: [] for arm in arms}
    for number in range(plan.rounds):
        for arm in arms:
            cost = _run(load, arm, waves)
            costs[arm.name].append(cost)
            speed = f"{cost.speed.tokens_per_second:.1f} tokens/s"
            said = f"{load.what}, round {number + 1} of {plan.rounds}: {arm.name}, {speed}"
            print(said, file=sys.stderr, flush=True)
    first, *others = arms
    return [_row(load, arm, costs[arm.name], first, costs[first.name]) for arm in others]


def _run(load: Load, arm: Arm, waves: int) -> Cost:
    bodies = load.bodies(load.concurrency * waves)
    if arm.policies:
        bodies = [{**body, "policy": policy} for body, policy in zip(bodies, cycle(arm.policies), strict=False)]
    before = arm.server.processor_seconds()
    speed = measure(arm.server.url, bodies, load.concurrency)
    return Cost(speed, arm.server.processor_seconds() - before)


def _row(load: Load, arm: Arm, own: list[Cost], first: Arm, firsts: list[Cost]) -> Row:
    rounds = [mine.ratios(theirs) for mine, theirs in zip(own, firsts, strict=True)]
    columns = [[ratio for ratio in column if ratio is not None] for column in zip(*rounds, strict=True)]
    return Row(
        what=load.what,
        arm=arm.name,
        ratios=tuple(Ratio(tuple(column)) if column else None for column in columns),
        goal=arm.goal,
        aside=f"{_median(own):.1f} tokens/s, {first.name} {_median(firsts):.1f}",
    )


def _median(costs: list[Cost]) -> float:
    return statistics.median(cost.speed.tokens_per_second for cost in costs)
