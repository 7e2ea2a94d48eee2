"""Assignment: published vectors, and the invariants of a hash space divided among arms."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from forkpoint_server.experiments.assignment import (
    NEGLIGIBLE,
    Space,
    find,
    hash_of,
    inside,
    lay_out,
    point_of,
    raised,
    salt_of,
    weight_of,
)
from forkpoint_server.experiments.units import slice_of

GUIDE = Path(__file__).parents[4] / "docs" / "experiments.md"
UNITS = [f"user-{number}" for number in range(20_000)]


@st.composite
def weights(draw: st.DrawFn) -> dict[str, float]:
    """Two to six arms that fit."""
    parts = draw(st.lists(st.integers(0, 1000), min_size=3, max_size=7).filter(lambda parts: sum(parts[:-1]) > 0))
    return {f"arm{number}": round(part / sum(parts), 6) * 0.999 for number, part in enumerate(parts[:-1])}


@st.composite
def ramps(draw: st.DrawFn) -> list[dict[str, float]]:
    """The weights of an experiment as they are raised, step by step."""
    last = draw(weights())
    shares = sorted(draw(st.lists(st.tuples(*[st.floats(0, 1) for _ in last]), min_size=1, max_size=4)))
    steps = [dict.fromkeys(last, 0.0)]
    for share in shares:
        steps.append(
            {
                arm: max(round(weight * s, 9), steps[-1][arm])
                for (arm, weight), s in zip(last.items(), share, strict=True)
            }
        )
    return steps


def vectors() -> list[tuple[str, str, float]]:
    rows = re.findall(r"^\| `([^|]*)` \| `([^|]*)` \| ([0-9.]+) \|$", GUIDE.read_text(), re.MULTILINE)
    return [(salt, unit, float(point)) for salt, unit, point in rows]


def test_the_published_vectors() -> None:
    published = vectors()
    assert len(published) >= 6
    for salt, unit, point in published:
        assert point_of(hash_of(salt, unit)) == pytest.approx(point, abs=1e-15), (salt, unit)


def test_points_lie_below_one() -> None:
    assert point_of(0) == 0
    assert point_of(2**64 - 1) < 1
    assert point_of(2**63) == 0.5


def test_points_are_uniform() -> None:
    points = [point_of(hash_of(salt_of("calm", "abc"), unit)) for unit in UNITS]
    assert kstest(points, "uniform").pvalue > 0.001


def test_experiments_are_independent() -> None:
    """Of the units in each quarter of one experiment, a quarter is in each quarter of another one, and of a layer."""
    for first, second in (
        (salt_of("a", "s"), salt_of("b", "s")),
        (salt_of("a", "s"), salt_of("a", "t")),
        ("a", salt_of("a", "")),
    ):
        table = [[0] * 4 for _ in range(4)]
        for unit in UNITS:
            table[int(point_of(hash_of(first, unit)) * 4)][int(point_of(hash_of(second, unit)) * 4)] += 1
        assert chisquare([count for row in table for count in row]).pvalue > 0.001


@given(weights())
def test_arms_get_their_weights(wanted: dict[str, float]) -> None:
    space = lay_out(wanted)
    check_space(space)
    assert {arm: weight_of(intervals) for arm, intervals in space.items()} == pytest.approx(wanted, abs=1e-11)
    counts = dict.fromkeys([*wanted, None], 0)
    for number in range(1000):
        found = find(space, (number + 0.5) / 1000)
        counts[None if found is None else found[0]] += 1
    for arm, weight in wanted.items():
        assert counts[arm] == pytest.approx(1000 * weight, abs=3)


@example([{"a": 0.0}, {"a": NEGLIGIBLE}], [0.0] * 20)  # too little to raise
@given(ramps(), st.lists(st.floats(0, 1, exclude_max=True), min_size=20, max_size=20))
def test_a_raise_only_adds(steps: list[dict[str, float]], points: list[float]) -> None:
    """A unit stays in its arm and in the epoch in which it entered; no two arms own the same point."""
    space = lay_out(steps[0], epoch=1)
    for epoch, step in enumerate(steps[1:], start=2):
        before = [find(space, point) for point in points]
        space = raised(space, step, epoch)
        check_space(space)
        reached = {arm: weight_of(intervals) for arm, intervals in space.items()}
        assert reached == pytest.approx(step, abs=1.1 * NEGLIGIBLE)
        for was, now in zip(before, (find(space, point) for point in points), strict=True):
            assert was is None or now == was
            assert was is not None or now is None or now[1].since == epoch


def check_space(space: Space) -> None:
    intervals = sorted((one.low, one.high) for intervals in space.values() for one in intervals)
    assert all(0 <= low < high <= 1 for low, high in intervals)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(intervals))


def test_weights_that_do_not_fit_are_rejected() -> None:
    lay_out({"a": 0.1, "b": 0.2, "c": 0.7})
    lay_out({f"arm{number}": 0.1 for number in range(10)})
    for arms in (3, 6, 7, 9, 11, 13):
        lay_out({f"arm{number}": 1 / arms for number in range(arms)})
    with pytest.raises(ValueError, match="sum to more than 1"):
        lay_out({"a": 0.6, "b": 0.5})
    with pytest.raises(ValueError, match="can only be raised"):
        raised(lay_out({"a": 0.3, "b": 0.3}), {"a": 0.2}, 1)


def test_layers_are_cut_by_their_own_hash() -> None:
    low = {unit for unit in UNITS if inside((0.0, 0.25), "answers", unit)}
    high = {unit for unit in UNITS if inside((0.25, 1.0), "answers", unit)}
    assert not low & high
    assert low | high == set(UNITS)
    assert math.isclose(len(low) / len(UNITS), 0.25, abs_tol=0.01)
    assert all(inside((0.0, 1.0), "answers", unit) for unit in UNITS[:100])


def test_slices_follow_the_clock() -> None:
    assert slice_of(1_000_000_000.0, 60) == slice_of(1_000_000_019.9, 60) == "16666666"
    assert slice_of(1_000_000_020.0, 60) == "16666667"
