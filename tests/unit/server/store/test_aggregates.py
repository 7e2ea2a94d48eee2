"""Sums per unit, against the same sums over the rows as they were made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from forkpoint_server.store.aggregates import ArmEffect, arm_counts, arm_effects, unit_sums
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.outcomes import (
    Outcome,
    add_outcomes,
)
from tests.unit.server.experiments.factories import store
from tests.unit.server.store.rows import row


def test_sums_are_of_units(database: Engine) -> None:
    """Against the same sums over the rows as they were made."""
    stored, random = store(database), np.random.default_rng(1)
    rows = [
        row(
            stored.id, f"r{number}", ("control", "calm")[number % 2], unit=int(random.integers(30)) * (-1) ** number,
            epoch=int(random.integers(2)), tokens=int(random.integers(1, 1000)), triggered=int(random.integers(4)),
            mean_entropy=None if number % 5 == 0 else float(random.random()), created=1000.0 + number,
        )
        for number in range(400)
    ]  # fmt: skip
    add_assignments(database, rows)
    correct = {one["request_id"]: float(random.integers(2)) for one in rows[::3]}
    add_outcomes(database, stored.id, [Outcome(name, "correct", value) for name, value in correct.items()], 32)

    def check(chosen: list[dict[str, Any]], until: float, triggered: int | None = None) -> None:
        found = unit_sums(database, stored.id, until, ("control", "calm"), triggered=triggered)
        for arm in ("control", "calm"):
            for metric in ("tokens", "mean_entropy", "correct"):
                expected: dict[tuple[float, float], list[float]] = {}
                for one in chosen:
                    value = correct.get(str(one["request_id"])) if metric == "correct" else one[metric]
                    if one["arm"] == arm and value is not None:
                        expected.setdefault((one["unit"], one["epoch"]), []).append(value)
                sums = found[arm][metric]
                got = dict(
                    zip(
                        zip(sums.units.tolist(), sums.epochs.tolist(), strict=True),
                        zip(sums.requests, sums.sums, strict=True),
                        strict=True,
                    )
                )
                assert got.keys() == expected.keys()
                for key, values in expected.items():
                    assert got[key] == pytest.approx((len(values), sum(values)))

    check(rows, 1e12)
    check(rows[:250], 1250.0)
    check([one for one in rows if one["triggered"] & 2], 1e12, triggered=1)
    overall = arm_counts(database, stored.id)
    assert overall["calm"].requests == 200
    assert overall["calm"].units == len({one["unit"] for one in rows if one["arm"] == "calm"})
    requests, mean = overall["calm"].means["tokens"]
    assert requests == 200
    assert mean == pytest.approx(np.mean([one["tokens"] for one in rows[1::2]]))


def test_controls_are_filtered_by_the_arm_they_were_observed_for(database: Engine) -> None:
    """If control requests alternate, those that observe another arm say nothing about this one."""
    stored = store(database)
    add_assignments(
        database, [row(stored.id, f"r{number}", unit=number, watched=1 << number % 3) for number in range(9)]
    )
    assert unit_sums(database, stored.id, np.inf, ("control",), observed=1)["control"]["tokens"].units.tolist() == [
        1,
        4,
        7,
    ]
    add_assignments(database, [row(stored.id, "of before", unit=100)])
    assert 100 in unit_sums(database, stored.id, np.inf, ("control",), observed=1)["control"]["tokens"].units


def test_effects_of_arms_count_the_tokens_of_requests_whose_effect_is_recorded(database: Engine) -> None:
    stored = store(database)
    add_assignments(
        database,
        [
            row(stored.id, "a", "calm", effect=2.5, tokens=100, created=1.0),
            row(stored.id, "b", "calm", effect=1.5, tokens=300, created=2.0),
            row(stored.id, "c", "calm", effect=None, tokens=1000, created=3.0),
            row(stored.id, "d", "calm", effect=9.0, tokens=10, created=5.0),
            row(stored.id, "e", "control", effect=None, tokens=50, created=1.0),
            row(stored.id, "f", "control", effect=None, tokens=0, created=1.0),
        ],
    )
    found = arm_effects(database, stored.id, until=5.0)
    assert found == {"calm": ArmEffect(4.0, 400, 1), "control": ArmEffect(0.0, 0, 1)}
