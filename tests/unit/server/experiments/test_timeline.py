"""The analysis of one metric at several times."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from forkpoint_policies.spec import InputError
from forkpoint_server.experiments.report import analyse_experiment
from forkpoint_server.experiments.timeline import timeline
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.recorder import SERVER
from tests.unit.server.store.rows import row

from .factories import store

HOUR_SECONDS, REQUESTS = 3600.0, 800


def test_each_point_holds_the_requests_before_it_and_the_last_is_the_analysis(database: Engine) -> None:
    now = time.time()
    stored = replace(store(database), created=now - HOUR_SECONDS)
    rows = [
        row(
            stored.id, f"{arm}{number}", arm, tokens=tokens + number % 7,
            created=now - HOUR_SECONDS + HOUR_SECONDS * number / REQUESTS, latency_seconds=0.0,
        )
        for arm, tokens in (("control", 100), ("calm", 80))
        for number in range(REQUESTS)
    ]  # fmt: skip
    add_assignments(database, rows)
    found = timeline(database, stored, "tokens", 4)
    assert (found["object"], found["name"], found["metric"], list(found["arms"])) == (
        "experiment.timeline", "one", "tokens", ["calm"],
    )  # fmt: skip
    points = found["arms"]["calm"]
    ends = [point["until"] - stored.created for point in points]
    assert ends == pytest.approx([900, 1800, 2700, 3600], rel=0.01)  # the test itself takes time
    assert all(point["estimate"] == pytest.approx(-20, abs=0.5) for point in points)
    widths = [point["interval"][1] - point["interval"][0] for point in points]
    assert widths == sorted(widths, reverse=True)
    whole = analyse_experiment(database, stored, None, None, SERVER, {})["metrics"]["tokens"]["arms"]["calm"]
    assert points[-1]["interval"] == pytest.approx(whole["difference"]["interval"])


def test_before_the_first_request_nothing_is_known(database: Engine) -> None:
    stored = store(database)
    assert timeline(database, stored, "tokens", 2)["arms"]["calm"][0]["interval"] is None
    with pytest.raises(InputError, match="there is no metric 'tokns'"):
        timeline(database, stored, "tokns", 2)
