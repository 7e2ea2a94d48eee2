"""Servers under the same load, round robin (A B C D A B C D …), so that other work on the machine affects all alike."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .request_load import Json, Speed, measure
from .servers import ServerProcess
from .tables import Ratio, Row

MIN_WAVES, MAX_WAVES = 1, 40
COLUMNS = ("tokens/s ÷ stock's", "stock's time between tokens ÷ its", "stock's CPU time ÷ its")


@dataclass(frozen=True)
class Arm:
    """A server, the policy that its requests name, and the least share of stock's throughput that it shall reach."""

    name: str
    server: ServerProcess
    policy: str | None = None
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
    stock: ServerProcess, forkpoint: ServerProcess, goals: Mapping[str | None, float | None]
) -> tuple[list[Arm], list[str]]:
    """An arm per policy (None: a request without one), between stock and stock again; a note for each missing policy.

    What differs between the two stocks is noise.
    """
    served = {None, *forkpoint.policies()}
    named = [Arm(policy or "no policy", forkpoint, policy, goal) for policy, goal in goals.items() if policy in served]
    notes = [f"`{policy}` was skipped: this Forkpoint does not serve it." for policy in goals if policy not in served]
    return [Arm("stock", stock), *named, Arm("stock, again", stock)], notes


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
    policy = {"policy": arm.policy} if arm.policy is not None else {}
    bodies = [{**body, **policy} for body in load.bodies(load.concurrency * waves)]
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
