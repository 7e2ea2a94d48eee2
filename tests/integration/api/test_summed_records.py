"""A server that stores no traces, where the worker sums records: the same figures as one by one, wherever they go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from forkpoint_server.store.built_in_metrics import SUMMARY_COLUMNS
from forkpoint_server.store.database import open_database
from forkpoint_server.store.tables import ASSIGNMENTS
from tests.integration.polling import running, until
from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving

ARMS = [{"name": "control", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}]
COUNTED = ("forkpoint_tokens", "forkpoint_token_entropy", "forkpoint_intervention", "forkpoint_reasoning_tokens")
RECORDED = ("triggered", "watched", "effect", *SUMMARY_COLUMNS)
BODIES: list[dict[str, Any]] = [
    {"policy": "observe", "max_tokens": 300, "ignore_eos": True},
    {"policy": "nowait"},
    {"policy": "dual-temperature", "n": 2},
    {"policy": "entropix", "max_tokens": 1},
    {"policy": "nowait", "stop": ["so"]},
    {"policy": "observe", "forks": True, "max_tokens": 20},
    {"policy": {"shadow": True, "rules": [{"when": {"entropy_above": 0.5}, "do": {"temperature": 0.5}}]}},
]
UNITS = [f"account-{number}" for number in range(6)]


@dataclass(frozen=True)
class Seen:
    """What a server said of the same requests: in answers, in /metrics, and in its database."""

    summaries: list[dict[str, Any]]
    metrics: dict[str, float]
    rows: list[dict[str, Any]]


def ask(http: httpx.Client, unit: str | None = None, **body: Any) -> dict[str, Any]:
    headers = {} if unit is None else {"X-Unit": unit}
    request = {"model": "countdown", "messages": MESSAGES, "max_tokens": 200, "seed": 7, **body}
    answer: dict[str, Any] = http.post("/chat/completions", headers=headers, json=request).raise_for_status().json()
    return answer


def see(server: Server) -> Seen:
    """Each request alone, so that the model computes the same."""
    with httpx.Client(base_url=server.api, timeout=120) as http:
        experiment = {"name": "sums", "arms": ARMS, "unit": "X-Unit", "salt": "s"}
        http.post("/experiments", json=experiment).raise_for_status()
        summaries = [ask(http, **body)["forkpoint"] for body in BODIES]
        summaries += [ask(http, unit).get("forkpoint", {}) for unit in UNITS]
        metrics = {name: value for name, value in server.metrics().items() if name.startswith(COUNTED)}
        until(lambda: sum(arm["requests"] for arm in http.get("/experiments/sums").json()["figures"]) == len(UNITS))
    database = open_database(f"sqlite:///{server.log.parent / 'forkpoint' / 'forkpoint.sqlite3'}")
    with database.connect() as connection:
        found = connection.execute(select(ASSIGNMENTS).order_by(ASSIGNMENTS.c.created)).mappings()
        rows = [{name: row[name] for name in RECORDED} for row in found]
    database.dispose()
    return Seen(summaries, {name: value for name, value in metrics.items() if "_created" not in name}, rows)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    with serving(tmp_path_factory.mktemp("single"), "--show-arms", environment=ONE_PROCESS) as server:
        return see(server)


@pytest.fixture(scope="module")
def summing(tmp_path_factory: pytest.TempPathFactory, single: Seen) -> Iterator[Server]:
    """After the other has ended: two cores do not serve two models well."""
    folder = tmp_path_factory.mktemp("summing")
    with serving(folder, "--show-arms", "--trace-tokens", "0", environment=ONE_PROCESS) as server:
        yield server


def test_figures_metrics_and_outcomes_are_the_same(single: Seen, summing: Server) -> None:
    summed = see(summing)
    for body, one, other in zip(BODIES, single.summaries, summed.summaries, strict=False):
        assert other == one, body
    assert summed.summaries == single.summaries
    assert all(one["complete"] for one in summed.summaries if one)
    assert summed.metrics == pytest.approx(single.metrics)
    assert summed.rows == single.rows
    assert len(summed.rows) == len(UNITS)


def test_an_answer_whose_client_leaves_is_counted(summing: Server) -> None:
    body = {"model": "countdown:observe", "messages": MESSAGES, "max_tokens": 1500, "ignore_eos": True, "stream": True}
    before, received = counted(summing), 0
    with httpx.stream("POST", f"{summing.api}/chat/completions", json=body, timeout=120) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {") and "delta" in line:
                received += bool(json.loads(line[6:])["choices"])
            if received == 200:
                break
    until(lambda: not running(summing))
    until(lambda: counted(summing) - before >= received - 1)  # the first delta has the role


def counted(server: Server) -> float:
    return sum(value for name, value in server.metrics().items() if name.startswith("forkpoint_tokens_total"))
