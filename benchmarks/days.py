"""Simulated experiments with a known truth, analysed after every day: returning units, skewed token counts, drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from forkpoint_server.experiments.analysis.analyse import Arm, Metric, Stratum, Sums, analyse
from forkpoint_server.experiments.analysis.multiple_testing import holm

Counts = NDArray[np.int64]
Values = NDArray[np.float64]

ALPHA = 0.05
ARMS = ("none", "b", "c")
METRICS = (
    Metric("tokens", "lower", "decision"),
    Metric("correct", "higher", "decision"),
    Metric("error", "lower", "guardrail", margin=0.0),
)
ERROR_RATE = 0.02
COMPARISONS = tuple((arm, metric.name) for metric in METRICS for arm in ARMS[1:])


@dataclass(frozen=True)
class World:
    """A scenario. `effects`: what the arms other than the control add to every request's value, metric -> size."""

    new_units_per_day: float = 300
    days: int = 28
    returning: float = 0.1  # mean probability that a unit comes again on any later day; each has its own
    requests_per_visit: float = 2.0
    effects: Mapping[str, float] = field(default_factory=dict)
    raise_after: int | None = None  # days; until then the other arms have a third of the control's weight
    with_periods: bool = True  # whether the analysis knows the period of each request
    drift: float = 0.15  # tokens move up and down by this share, and errors and correct ones with them, over the weeks


@dataclass(frozen=True)
class Experiment:
    """What had come before each day and after the last: [days + 1, units] each, but `arm` and `piece` [units]."""

    arm: Counts
    piece: Counts  # 0: the unit is in an arm's first share of all units, 1: in what a raise added
    requests: Counts
    sums: Mapping[str, Values]


@dataclass(frozen=True)
class Looks:
    """What any look said; `found` is the first day, from 1, on which a comparison got a verdict, or 0."""

    found: Mapping[tuple[str, str], int]
    false_by_peeking: bool  # a z-test for a fixed sample, after Holm, looked at as often
    covered: Mapping[tuple[str, str], bool]
    breached: bool  # any guardrail
    mismatch: bool

    @property
    def decided(self) -> bool:
        return any(self.found.values())


def simulate(world: World, random: np.random.Generator) -> Experiment:
    """Draw one experiment."""
    count = random.poisson(world.new_units_per_day * world.days)
    days = np.arange(world.days)
    first = random.integers(world.days, size=(count, 1))
    comes = random.beta(0.5, 0.5 * (1 / world.returning - 1), (count, 1)) if world.returning else np.zeros((count, 1))
    visits = (days == first) | ((days > first) & (random.random((count, world.days)) < comes))
    requests = visits * (1 + random.poisson(world.requests_per_visit - 1, visits.shape))
    arm = random.integers(len(ARMS), size=count)
    piece = np.zeros(count, np.int64)
    if world.raise_after is not None:
        piece = ((arm > 0) & (random.random(count) < 2 / 3)).astype(np.int64)
        requests[np.ix_(piece == 1, days < world.raise_after)] = 0  # not in the experiment yet
    wave = np.sin(2 * np.pi * days / world.days)
    solved = random.uniform(0.3, 0.7, (count, 1)) + world.drift * wave + _added(world, "correct", arm)
    failed = np.broadcast_to(ERROR_RATE * (1 + world.drift * wave), requests.shape)
    sums: dict[str, NDArray[Any]] = {
        "tokens": _tokens(requests, 1 + world.drift * wave, random) + requests * _added(world, "tokens", arm),
        "correct": random.binomial(requests, solved),
        "error": random.binomial(requests, failed),
    }
    return Experiment(
        arm, piece, _before(requests), {name: _before(values).astype(np.float64) for name, values in sums.items()}
    )


def look_daily(world: World, experiment: Experiment) -> Looks:
    """Analyse the experiment after every day, with all that had come by then."""
    found = dict.fromkeys(COMPARISONS, 0)
    covered = dict.fromkeys(COMPARISONS, True)
    peeked = breached = mismatch = False
    for day in range(1, world.days + 1):
        analysis = analyse(*_until(world, experiment, day), METRICS, ALPHA)
        mismatch |= not analysis["sample_ratio"]["passed"]
        differences = {
            (arm, metric): analysis["metrics"][metric]["arms"][arm]["difference"] for arm, metric in COMPARISONS
        }
        for one, difference in differences.items():
            verdict = difference["verdict"]
            if difference["guardrail"]:
                breached |= verdict == "breached"
            elif verdict not in (None, "not yet decided"):
                found[one] = found[one] or day
            if difference["interval"]:
                low, high = difference["interval"]
                covered[one] &= low <= world.effects.get(one[1], 0.0) <= high
        peeked |= _peeked([one for one in differences.values() if not one["guardrail"]])
    return Looks(found, peeked, covered, breached, mismatch)


def _peeked(differences: list[Mapping[str, Any]]) -> bool:
    """Whether a z-test for a fixed sample finds anything, from the same estimates and standard errors, after Holm."""
    z = [abs(one["estimate"] / one["standard_error"]) if one["standard_error"] else 0.0 for one in differences]
    return min(holm([float(2 * ndtr(-value)) for value in z])) <= ALPHA


def _until(world: World, experiment: Experiment, day: int) -> tuple[list[Arm], str, list[Stratum]]:
    """Arms, control and epochs as they were after so many days."""
    start = world.raise_after if world.raise_after is not None and world.raise_after < day else 0
    by_period = world.raise_after is not None and world.with_periods
    periods = [(0, start), (start, day)] if start and by_period else [(0, day)]
    requests = [experiment.requests[end] - experiment.requests[start] for start, end in periods]
    sums = {name: [values[end] - values[start] for start, end in periods] for name, values in experiment.sums.items()}
    arms = []
    for number, name in enumerate(ARMS):
        seen = [np.flatnonzero((experiment.arm == number) & (some > 0)) for some in requests]
        units, where = np.concatenate(seen), np.repeat(np.arange(len(periods)), [len(some) for some in seen])
        weights = np.concatenate([some[which] for some, which in zip(requests, seen, strict=True)]).astype(np.float64)
        metrics = {
            metric: Sums(
                weights,
                np.concatenate([some[which] for some, which in zip(values, seen, strict=True)]),
                units if by_period else None,
                where if by_period else None,
            )
            for metric, values in sums.items()
        }
        arms.append(Arm(name, metrics, {}, {}))
    came = experiment.requests[day] > 0
    return arms, ARMS[0], _epochs(world, experiment, came)


def _epochs(world: World, experiment: Experiment, came: NDArray[np.bool_]) -> list[Stratum]:
    """The units that came, by the weights that they were shared out by."""
    whole = 1 / len(ARMS)
    if world.raise_after is None:
        shares = [dict.fromkeys(ARMS, whole)]
    else:
        shares = [{ARMS[0]: whole, **dict.fromkeys(ARMS[1:], whole / 3)}, dict.fromkeys(ARMS[1:], whole * 2 / 3)]
    counted = [
        np.bincount(experiment.arm[came & (experiment.piece == piece)], minlength=len(ARMS))
        for piece in range(len(shares))
    ]
    return [
        Stratum(weights, dict(zip(ARMS, map(int, units), strict=True)))
        for weights, units in zip(shares, counted, strict=True)
    ]


def _tokens(requests: Counts, level: Values, random: np.random.Generator) -> Values:
    """[units, days] log-normal counts of tokens, around 500 a request, that resemble each other within a unit."""
    owner = np.repeat(np.arange(requests.size), requests.ravel())
    units = random.normal(5.8, 0.5, (requests.shape[0],))
    each = np.exp(units[owner // requests.shape[1]] + random.normal(0, 0.8, owner.size))
    counts = np.bincount(owner, np.ceil(each), requests.size).reshape(requests.shape)
    return np.asarray(counts * level, np.float64)


def _before(by_day: NDArray[Any]) -> NDArray[Any]:
    """[days + 1, units] what had come before each day, of what came on it [units, days]."""
    return np.concatenate([np.zeros((1, by_day.shape[0]), by_day.dtype), by_day.cumsum(axis=1).T])


def _added(world: World, metric: str, arm: Counts) -> Values:
    """[units, 1] what each unit's arm adds to a request's value."""
    return np.where(arm > 0, world.effects.get(metric, 0.0), 0.0)[:, None]
