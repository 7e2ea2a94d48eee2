"""What is recorded and posted, on SQLite and on PostgreSQL: nothing twice, nothing acknowledged that is not there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, Table, event, func, select
from sqlalchemy.exc import OperationalError

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError
from forkpoint_server.experiments import outcomes as posting
from forkpoint_server.experiments.outcomes import record_outcomes
from forkpoint_server.experiments.report import analysed
from forkpoint_server.store import recorder as recording
from forkpoint_server.store.aggregates import counted, unit_sums
from forkpoint_server.store.assignments import add_assignments, remove_older
from forkpoint_server.store.database import open_database
from forkpoint_server.store.experiments import (
    change_experiment,
    put_policy,
    read_definitions,
    read_number,
    remove_experiment,
    remove_policy,
)
from forkpoint_server.store.outcomes import (
    ContradictionError,
    Outcome,
    TooManyMetricsError,
    UnknownRequestError,
    add_outcomes,
)
from forkpoint_server.store.recorder import Recorder
from forkpoint_server.store.tables import ASSIGNMENTS, OUTCOMES
from tests.processes.postgresql import postgresql
from tests.unit.policies.rows import row
from tests.unit.server.experiments.factories import store


def count(database: Engine, table: Table = ASSIGNMENTS) -> int:
    with database.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("forkpoint_records_dropped_total", {"reason": reason}) or 0.0


@contextmanager
def recording_to(database: Engine, most_waiting: int = 1000) -> Iterator[Recorder]:
    recorder = Recorder(database, 90, most_waiting)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop(5)


def test_a_row_is_written_once(database: Engine) -> None:
    """A batch whose commit was not heard of is written again; of two requests with one id the first is kept."""
    stored = store(database)
    rows = [row(stored.id, f"r{number}", tokens=number) for number in range(700)]
    assert add_assignments(database, rows) == 700
    assert add_assignments(database, [*rows, row(stored.id, "new")]) == 1
    assert count(database) == 701


def test_outcomes_count_once(database: Engine) -> None:
    stored, other = store(database), store(database, name="two")
    add_assignments(database, [row(stored.id, "a"), row(stored.id, "b", "calm"), row(other.id, "c")])
    posted = [Outcome("a", "correct", 1.0), Outcome("b", "correct", 0.0), Outcome("b", "stars", 4.0)]
    added = add_outcomes(database, stored.id, [*posted, posted[0]], 32)
    assert sorted(added.new) == [("calm", posted[1]), ("calm", posted[2]), ("control", posted[0])]
    assert added.duplicates == 1
    again = add_outcomes(database, stored.id, [*posted, Outcome("a", "stars", 2.0)], 32)
    assert (again.new, again.duplicates) == ((("control", Outcome("a", "stars", 2.0)),), 3)
    assert count(database, OUTCOMES) == 4


def test_a_list_is_stored_as_a_whole_or_not_at_all(database: Engine) -> None:
    stored, other = store(database), store(database, name="two")
    add_assignments(database, [row(stored.id, "a"), row(stored.id, "b"), row(other.id, "c")])
    add_outcomes(database, stored.id, [Outcome("b", "correct", 1.0)], 2)
    good = Outcome("a", "correct", 1.0)
    with pytest.raises(UnknownRequestError, match="c"):
        add_outcomes(database, stored.id, [good, Outcome("c", "correct", 1.0)], 2)
    with pytest.raises(ContradictionError, match="correct of b is 1 already; an outcome is never changed to 0"):
        add_outcomes(database, stored.id, [good, Outcome("b", "correct", 0.0)], 2)
    with pytest.raises(ContradictionError, match=r"correct of a is [01] already"):
        add_outcomes(database, stored.id, [good, Outcome("a", "correct", 0.0)], 2)
    with pytest.raises(TooManyMetricsError):
        add_outcomes(database, stored.id, [good, Outcome("a", "x", 1.0), Outcome("a", "y", 1.0)], 2)
    assert count(database, OUTCOMES) == 1


def test_the_same_outcomes_from_many_at_once(database: Engine) -> None:
    stored = store(database)
    add_assignments(database, [row(stored.id, f"r{number}") for number in range(200)])
    posted = [Outcome(f"r{number}", "correct", float(number % 2)) for number in range(200)]

    def post(seed: int) -> int:
        order = np.random.default_rng(seed).permutation(200).tolist()
        return len(add_outcomes(database, stored.id, [posted[place] for place in order], 32).new)

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(post, range(12))) == 200
    assert count(database, OUTCOMES) == 200


def test_an_experiment_that_is_long_over_goes_with_its_outcomes(database: Engine) -> None:
    """All of it or nothing: what is valid of all requests is not of those of the last days."""
    stored, now = store(database), time.time()
    add_assignments(database, [row(stored.id, f"old{number}", created=now - 100) for number in range(5000)])
    add_outcomes(database, stored.id, [Outcome("old7", "correct", 1.0)], 32)
    assert remove_older(database, now - 50) == 0, "it runs"
    change_experiment(database, "one", lambda _: ("stopped", None))
    assert remove_older(database, now - 150) == 0
    add_assignments(database, [row(stored.id, "new", created=now)])
    assert remove_older(database, now - 50) == 0
    assert (count(database), count(database, OUTCOMES)) == (5001, 1)
    assert remove_older(database, now + 1) == 5001
    assert (count(database), count(database, OUTCOMES)) == (0, 0)


def test_a_clock_that_is_set_ahead_makes_nothing_old(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the server is started again, with a clock that one may believe."""
    stored, really = store(database), time.time
    add_assignments(database, [row(stored.id, "recent", created=really())])
    change_experiment(database, "one", lambda _: ("stopped", None))
    monkeypatch.setattr(recording, "PURGE_SECONDS", 0.0)
    with recording_to(database):
        monkeypatch.setattr(time, "time", lambda: really() + 100 * recording.DAY_SECONDS)
        time.sleep(1)  # each look for what waits, five a second, is one for what is old
    assert count(database) == 1
    with recording_to(database):
        deadline = time.monotonic() + 10
        while count(database) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert count(database) == 0


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
    overall = counted(database, stored.id)
    assert overall["calm"].requests == 200
    assert overall["calm"].units == len({one["unit"] for one in rows if one["arm"] == "calm"})
    requests, mean = overall["calm"].means["tokens"]
    assert requests == 200
    assert mean == pytest.approx(np.mean([one["tokens"] for one in rows[1::2]]))


def test_definitions_are_seen_by_others(database: Engine, database_url: str) -> None:
    """Through another connection, as another server would; and each change is one that the others notice."""
    other = open_database(database_url)
    numbers = [read_number(other)]
    stored = store(database, name="one")
    store(database, name="two")
    numbers.append(read_number(other))
    assert put_policy(database, "mine", {"rules": []})
    assert not put_policy(database, "mine", {"rules": [], "shadow": True})
    numbers.append(read_number(other))
    found = read_definitions(other)
    assert [one.name for one in found.experiments] == ["one", "two"]
    assert found.experiments[0] == stored
    assert found.policies == {"mine": {"rules": [], "shadow": True}}
    changed = change_experiment(
        other, "one", lambda before: ("paused", {**before.now.arms, "control": {"status": "paused", "intervals": []}})
    )
    assert [epoch.number for epoch in changed.epochs] == [0, 1]
    remove_policy(other, "mine", lambda experiments: None)
    remove_experiment(other, "two", lambda one: None)
    numbers.append(read_number(database))
    assert read_definitions(database).experiments == (changed,)
    assert numbers == sorted(set(numbers))
    with pytest.raises(KeyError):
        store(database, name="one")
    with pytest.raises(KeyError):
        change_experiment(database, "two", lambda before: ("paused", None))
    other.dispose()


def test_an_experiment_goes_with_all_that_was_recorded(database: Engine) -> None:
    stored = store(database)
    add_assignments(database, [row(stored.id, "a")])
    add_outcomes(database, stored.id, [Outcome("a", "correct", 1.0)], 32)
    remove_experiment(database, "one", lambda one: None)
    assert (count(database), count(database, OUTCOMES)) == (0, 0)
    assert store(database).id != stored.id  # an outcome that is late is not taken for one of its successor's


def test_the_recorder_writes_what_it_is_given(database: Engine) -> None:
    stored = store(database)
    with recording_to(database, most_waiting=10_000) as recorder:
        for number in range(1200):
            recorder.put(row(stored.id, f"r{number}"))
        assert recorder.flush(10)
        assert count(database) == 1200
        recorder.put(row(stored.id, "last"))
    assert count(database) == 1201  # what waits is written at the end
    assert REGISTRY.get_sample_value("forkpoint_records_waiting") == 0


def test_rows_of_a_deleted_experiment_do_not_hold_up_the_others(database: Engine) -> None:
    stored, before = store(database), dropped("refused")
    with recording_to(database) as recorder:
        for number in range(20):
            recorder.put(row(stored.id if number % 4 else stored.id + 7, f"r{number}"))
        assert recorder.flush(10)
    assert count(database) == 15
    assert dropped("refused") - before == 5


def test_a_store_that_fails_blocks_nobody_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose transactions fail, as those of a full disk do; then it works again."""
    monkeypatch.setattr(recording, "PATIENCE_SECONDS", (0.01, 0.05))
    database = open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    stored, before = store(database), dropped("full")
    full = threading.Event()
    full.set()

    @event.listens_for(database, "before_cursor_execute")
    def fail(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if full.is_set() and statement.startswith("INSERT INTO assignments"):
            raise OperationalError(statement, None, Exception("database or disk is full"))

    with recording_to(database, most_waiting=50) as recorder:
        recorder.put(row(stored.id, "the first"))
        while not recorder.warnings():  # until the writer holds it
            time.sleep(0.01)
        begun = time.monotonic()
        for number in range(1000):
            recorder.put(row(stored.id, f"r{number}"))
        assert time.monotonic() - begun < 1
        assert dropped("full") - before == 950
        assert not recorder.flush(0.2)
        (warning,) = recorder.warnings()
        assert "(OperationalError)" in warning
        assert "51 wait, and when 50 do, further ones are dropped" in warning
        full.clear()
        assert recorder.flush(10)
        assert recorder.warnings() == []
        assert count(database) == 51
    database.dispose()


def test_what_a_control_is_watched_for_is_kept(database: Engine) -> None:
    """Where control requests take turns, those that were watched for another arm say nothing of this one."""
    stored = store(database)
    add_assignments(
        database, [row(stored.id, f"r{number}", unit=number, watched=1 << number % 3) for number in range(9)]
    )
    assert unit_sums(database, stored.id, np.inf, ("control",), watched=1)["control"]["tokens"].units.tolist() == [
        1,
        4,
        7,
    ]
    add_assignments(database, [row(stored.id, "of before", unit=100)])
    assert 100 in unit_sums(database, stored.id, np.inf, ("control",), watched=1)["control"]["tokens"].units


async def test_an_outcome_that_comes_before_its_request_is_written_waits(database: Engine) -> None:
    """It may be in this server's queue, or in another's; what never comes is a 404 with the retention."""
    stored = store(database)
    with recording_to(database) as recorder:
        recorder.put(row(stored.id, "here"))
        assert (await record_outcomes(database, 90, stored, [Outcome("here", "correct", 1.0)])).new
        late = threading.Timer(0.5, add_assignments, (database, [row(stored.id, "elsewhere")]))
        late.start()
        assert (await record_outcomes(database, 90, stored, [Outcome("elsewhere", "correct", 1.0)])).new
        late.join()
        begun = time.monotonic()
        with pytest.raises(
            ApiError,
            match=r"no request 'never' of 'one' is recorded.*more than 90 days ago; nothing of this was stored",
        ):
            await record_outcomes(database, 90, stored, [Outcome("never", "correct", 1.0)])
        assert posting.WAIT_SECONDS <= time.monotonic() - begun < posting.WAIT_SECONDS + 4
        waiting = [
            asyncio.create_task(record_outcomes(database, 90, stored, [Outcome("never", "x", 1.0)])) for _ in range(40)
        ]
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        await record_outcomes(database, 90, stored, [Outcome("here", "late", 1.0)])
        assert time.monotonic() - begun < posting.WAIT_SECONDS, "those that wait for a request keep nobody else waiting"
        assert all(isinstance(one, ApiError) for one in await asyncio.gather(*waiting, return_exceptions=True))
    sample = REGISTRY.get_sample_value(
        "forkpoint_experiment_outcome_count", {"experiment": "one", "arm": "control", "metric": "correct"}
    )
    assert sample is not None
    assert sample >= 2


@pytest.mark.soak
def test_a_postgresql_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Requests are recorded once it is back; until then outcomes are refused, not acknowledged."""
    with postgresql(tmp_path / "data") as server:
        url = server.new_database()
        database = open_database(url)
        stored = store(database)
        recorder = Recorder(database, 90)
        recorder.start()
        recorder.put(row(stored.id, "before"))
        assert recorder.flush(10)
    recorder.put(row(stored.id, "while it is away"))
    assert not recorder.flush(2)
    with pytest.raises(OperationalError):
        add_outcomes(database, stored.id, [Outcome("before", "correct", 1.0)], 32)
    with postgresql(tmp_path / "data"):
        assert recorder.flush(60)
        assert count(database) == 2
        assert add_outcomes(database, stored.id, [Outcome("before", "correct", 1.0)], 32).new
        recorder.stop()
        database.dispose()


def test_the_effect_of_a_metric_can_be_asked_before_its_first_outcome(database: Engine) -> None:
    stored = store(database, metrics=[{"name": "correct", "direction": "higher", "role": "decision"}])
    found = analysed(database, stored, None, None, "server", {"correct": 0.05})
    assert found["metrics"]["correct"]["arms"]["calm"]["difference"]["more_requests"] == {
        "effect": 0.05, "source": "given", "requests": None,
    }  # fmt: skip
    with pytest.raises(InputError, match="there is no metric 'other'; there are correct, error"):
        analysed(database, stored, None, None, "server", {"other": 0.05})
