"""The analysis of experiments, day by day, where the truth is known: false verdicts, coverage, days until a verdict."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from forkpoint_server.experiments.analysis.srm import ALPHA as RATIO_ALPHA
from forkpoint_server.experiments.analysis.srm import log_e_values

from .days import COMPARISONS, Looks, World, look_daily, simulate
from .tables import Listing

SEED = 20260
PER_ROUND = 200
DAYS = World().days

USUAL = World(new_units_per_day=200)
WORLDS: Mapping[str, tuple[World, float]] = {
    "units that return": (USUAL, 1.0),
    "one request a unit": (World(new_units_per_day=300, returning=0, requests_per_visit=1), 0.3),
    "few units, 20 new ones a day": (World(new_units_per_day=20), 0.4),
    "time slices of 30 requests": (World(new_units_per_day=24, returning=0, requests_per_visit=30), 0.3),
    "two arms raised after 10 days": (replace(USUAL, raise_after=10), 0.3),
    "the same, periods ignored": (replace(USUAL, raise_after=10, with_periods=False), 0.1),
}
"""Without any effect: what is simulated, and with what share of the experiments."""

EFFECTS: Sequence[Mapping[str, float]] = (
    {"tokens": -15, "correct": 0.02},
    {"tokens": -40, "correct": 0.05},
    {"tokens": -80, "correct": 0.10},
)
EFFECTS_SHARE = 0.2
LOST = (0.0, 0.02, 0.05, 0.1)
TRAFFIC = (400, 4_000, 40_000)  # new units a day, in two arms


def aa(rounds: int) -> list[Listing]:
    """False verdicts without an effect, coverage and delay with one, and the test of the sample ratio."""
    count = rounds * PER_ROUND
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        without = {name: _looks(pool, world, round(count * share)) for name, (world, share) in WORLDS.items()}
        with_effects = [_looks(pool, replace(USUAL, effects=one), round(count * EFFECTS_SHARE)) for one in EFFECTS]
    return [_false(without), _found(without["units that return"], with_effects), _ratios(count)]


def run(world: World, number: int) -> Looks:
    """The experiment of this number, the same in every world of the same size."""
    return look_daily(world, simulate(world, np.random.default_rng([SEED, number])))


def _looks(pool: ProcessPoolExecutor, world: World, count: int) -> list[Looks]:
    return list(pool.map(run, repeat(world, count), range(count), chunksize=5))


def _false(without: Mapping[str, Sequence[Looks]]) -> Listing:
    rows = [
        (
            name,
            str(len(looks)),
            rate(one.decided for one in looks),
            rate(one.false_by_peeking for one in looks),
            _worst_coverage(looks),
            rate(one.breached for one in looks),
            rate(one.mismatch for one in looks),
        )
        for name, looks in without.items()
    ]
    heads = (
        "no effect at all",
        "experiments",
        "ever a false verdict",
        "z-tests, as often",
        "always covered",
        "false breach",
        "mismatch",
    )
    verdicts = (
        f"Three arms, {DAYS} days, looked at after each. A false verdict is any, at any look, in two arms and two "
        "metrics (tokens, correct), after Holm; the nominal rate is 5 %. z-tests take the same estimates and standard "
        "errors, and Holm. In brackets "
        "95 % Wilson intervals."
    )
    covered = (
        "Covered: the share of experiments whose 95 % interval contains the truth at every look; the worst of six."
    )
    breach = (
        "A false breach: of the guardrail on errors without a margin, in either arm, each at 5 %. "
        "Mismatch: the sample ratio "
        "fails, at 1 %."
    )
    notes = (verdicts, covered, breach)
    return Listing("aa", "false verdicts in experiments without an effect", heads, rows, notes)


def _found(none: Sequence[Looks], with_effects: Sequence[Sequence[Looks]]) -> Listing:
    rows = []
    for effects, looks in zip(({}, *EFFECTS), (none, *with_effects), strict=True):
        for metric in ("tokens", "correct"):
            days = np.array([one.found[arm, metric] for one in looks for arm in ("b", "c")])
            found = days[days > 0]
            median = f"{np.median(found):.0f}" if found.size and effects else ""
            covered = _worst_coverage(looks, metric)
            rows.append((f"{metric} {effects.get(metric, 0):+g}", str(len(looks)), covered, rate(days > 0), median))
    heads = ("effect", "experiments", "always covered", f"found within {DAYS} days", "median day")
    about = (
        "Both arms have the effect, on every request: of tokens around 500 with a standard deviation of about 620, of "
        f"correct ones around one half. {USUAL.new_units_per_day:g} new units a day in three arms, about "
        f"{_requests_a_day():.0f} requests. "
        "Found is said of both arms, which share their control."
    )
    notes = (about,)
    return Listing("effects", "coverage, and how soon an effect is found", heads, rows, notes)


def _requests_a_day() -> float:
    return float(simulate(USUAL, np.random.default_rng(SEED)).requests[-1].sum() / DAYS)


def _ratios(count: int) -> Listing:
    random = np.random.default_rng(SEED)
    rows = []
    for lost in LOST:
        cells = []
        for units in TRAFFIC:
            observed_counts = random.poisson(np.array([units / 2, units / 2 * (1 - lost)]), (count, DAYS, 2)).cumsum(
                axis=1
            )
            cells.append(rate((log_e_values(observed_counts, [0.5, 0.5]) >= -np.log(RATIO_ALPHA)).any(axis=1)))
        rows.append((f"{lost:.0%}" if lost else "none", *cells))
    heads = ("units that one of two arms loses", *(f"{units:,} units a day" for units in TRAFFIC))
    notes = (f"The share of {count} experiments in which the test fails at any of {DAYS} daily looks.",)
    return Listing("sample ratio", "how often a mismatch is found", heads, rows, notes)


def _worst_coverage(looks: Sequence[Looks], metric: str | None = None) -> str:
    compared = [one for one in COMPARISONS if metric in (None, one[1])]
    return rate(min(([look.covered[one] for look in looks] for one in compared), key=sum))


def rate(happened: Iterable[bool]) -> str:
    """A share in percent, with its Wilson interval."""
    seen = list(happened)
    low, high = proportion_confint(sum(seen), len(seen), method="wilson")
    return f"{np.mean(seen):.1%} [{100 * low:.1f}, {100 * high:.1f}]"
