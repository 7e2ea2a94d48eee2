"""Two API servers in front of one engine: any of them answers for any request, their metrics add up, both drain."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from safetensors.numpy import load

from tests.integration.polling import until
from tests.processes.forkpoint_server import Server, serving
from tests.processes.postgresql import postgresql

ANSWERS, TOKENS = 8, 40
AT_ONCE = 4
"""Connections that are open at once: each new one goes to the server with fewer, so both have some."""
PROMPT = "Use 3, 7, 2 to make 17."
DRAINED_TOKENS = 300
Json = dict[str, Any]
_Found = TypeVar("_Found")


@contextmanager
def two_api_servers(logs: Path) -> Iterator[Server]:
    # not below pytest's folder: that is closed to PostgreSQL's user whenever another run of pytest starts
    with TemporaryDirectory(prefix="forkpoint-postgresql-") as folder, postgresql(Path(folder) / "data") as database:
        arguments = ("--api-server-count", "2", "--database-url", database.new_database(), "--shutdown-timeout", "60")
        with serving(logs, *arguments) as found:
            yield found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with two_api_servers(tmp_path_factory.mktemp("two")) as found:
        yield found


def many(do: Callable[[int], _Found], count: int = ANSWERS) -> list[_Found]:
    """The results of calls that overlap, each on connections of its own."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(do, range(count)))


def ask(server: Server, number: int, **fields: object) -> Json:
    body = {"prompt": PROMPT, "max_tokens": TOKENS, "ignore_eos": True, "seed": number, **fields}
    found: Json = httpx.post(f"{server.api}/completions", json=body, timeout=120).raise_for_status().json()
    return found


def servers_of(ids: list[str]) -> set[str]:
    """The servers that are named in ids."""
    return {one.removeprefix("cmpl-")[:12] for one in ids}


def test_each_answers_for_all_from_the_first_request_on(server: Server) -> None:
    ids: list[str] = []

    def both_have_answered() -> bool:
        """One may accept connections before the other: /health needs only one of them."""
        ids.extend(str(answer["id"]) for answer in many(lambda number: ask(server, number, policy="observe")))
        return len(servers_of(ids)) == 2

    until(both_have_answered)

    def trace(number: int) -> tuple[int, str]:
        found = httpx.get(f"{server.api}/forks/{ids[number % len(ids)]}", timeout=60)
        return found.status_code, found.json().get("id", found.text)

    assert many(trace, 4 * len(ids)) == 4 * [(200, one) for one in ids]
    url = f"{server.api}/forks?limit={len(ids)}"
    pages = many(lambda _: httpx.get(url, timeout=60).raise_for_status().json()["data"])
    assert {frozenset(row["id"] for row in page) for page in pages} == {frozenset(ids)}


def test_metrics_of_any_are_those_of_all(server: Server) -> None:
    before = server.metrics()
    many(lambda number: ask(server, number, policy="observe", n=1 + number % 2))
    choices = ANSWERS + ANSWERS // 2

    def grown(_: int) -> tuple[float, ...]:
        now = server.metrics()
        labels = 'arm="",finish_reason="length",policy="observe"'
        roles = [f'forkpoint_tokens_total{{policy="observe",role="{role}"}}' for role in ("planning", "execution")]
        return (
            now[f"forkpoint_requests_total{{{labels}}}"] - before.get(f"forkpoint_requests_total{{{labels}}}", 0.0),
            sum(now[role] - before.get(role, 0.0) for role in roles),
            now['forkpoint_request_seconds_count{policy="observe"}']
            - before.get('forkpoint_request_seconds_count{policy="observe"}', 0.0),
            now["forkpoint_telemetry_dropped_total"],
            now["forkpoint_choices_running"],
            now["forkpoint_records_waiting"],
        )

    expected = (float(choices), float(choices * TOKENS), float(ANSWERS), 0.0, 0.0, 0.0)
    until(lambda: grown(0) == expected)  # a choice is counted after its answer
    assert set(many(grown)) == {expected}
    builds = [
        [value for name, value in page.items() if name.startswith("forkpoint_build_info")]
        for page in many(lambda _: server.metrics())
    ]
    assert builds == ANSWERS * [[1.0]]


def test_the_states_of_any_answer_are_read_by_any(server: Server) -> None:
    ids = [str(answer["id"]) for answer in many(lambda number: ask(server, number, policy="observe"))]
    assert len(servers_of(ids)) == 2

    def states(number: int) -> list[float]:
        body = {"request_id": ids[number % 2], "max_states": 2}
        response = httpx.post(f"{server.api}/states", json=body, timeout=120)
        assert response.status_code == 200, response.text
        found: list[float] = load(response.content)["last"].ravel().tolist()
        return found

    one, other = states(0), states(1)
    assert len(one) == len(other) > 0
    for number, found in enumerate(many(states)):
        assert found == pytest.approx((one, other)[number % 2], abs=0.05)


def test_a_live_stream_comes_from_any(server: Server) -> None:
    with httpx.stream(
        "POST",
        f"{server.api}/completions",
        json={"prompt": PROMPT, "max_tokens": DRAINED_TOKENS, "ignore_eos": True, "stream": True, "policy": "observe"},
        timeout=60,
    ) as answer:
        lines = answer.iter_lines()
        request_id = json.loads(next(lines).removeprefix("data: "))["id"]

        def first_event(_: int) -> str:
            url = f"{server.api}/forks/{request_id}"
            with httpx.stream("GET", url, params={"stream": "true"}, timeout=60) as stream:
                assert stream.status_code == 200
                return next(line for line in stream.iter_lines() if line.startswith("data: "))

        many(first_event, AT_ONCE)
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_each_branches(server: Server) -> None:
    answers = many(lambda number: ask(server, number, policy="branch-at-forks", n=3, temperature=1.0))
    assert len(servers_of([str(answer["id"]) for answer in answers])) == 2
    summaries = [answer["forkpoint"] for answer in answers]
    assert all(summary["complete"] for summary in summaries)
    assert sum(summary["branches"] > 0 for summary in summaries) > ANSWERS / 2


def test_what_is_stored_reaches_both(server: Server) -> None:
    path = f"{server.api}/policies/mine"
    httpx.put(path, json={"rules": [{"do": {"temperature": 0.5}}]}).raise_for_status()
    until(lambda: many(lambda _: httpx.get(path).status_code) == ANSWERS * [200], 20)
    many(lambda number: ask(server, number, policy="mine"))


def test_sigterm_lets_both_finish_and_refuses_what_comes_later(server: Server) -> None:
    """Trees too: their branches begin after the signal, when an engine that stops takes none."""
    running = Barrier(AT_ONCE + 1)
    common = {"prompt": PROMPT, "max_tokens": DRAINED_TOKENS, "ignore_eos": True, "stream": True}

    def events(body: Json) -> Iterator[Json]:
        with httpx.stream("POST", f"{server.api}/completions", json={**common, **body}, timeout=60) as answer:
            lines = (line.removeprefix("data: ") for line in answer.iter_lines() if line)
            yield json.loads(next(lines))
            running.wait(60)  # the engine has it: its first token is here
            yield from (json.loads(line) for line in lines if line != "[DONE]")

    def reasons(number: int) -> list[str]:
        late_branches = {"rules": [{"when": {"after_token": DRAINED_TOKENS - 20}, "do": {"branch": {"depth": 1}}}]}
        body = {"seed": number, "policy": late_branches if number % 2 else "observe", "n": 2 if number % 2 else 1}
        choices = [choice for event in events(body) for choice in event["choices"]]
        return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]

    def late(number: int) -> tuple[int, str | None]:
        body = {"prompt": PROMPT, "max_tokens": 1, "stream": number % 2 == 0}
        answer = httpx.post(f"{server.api}/completions", json=body, timeout=60)
        return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        streams = [pool.submit(reasons, number) for number in range(AT_ONCE)]
        running.wait(60)
        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.url}/health").status_code == 503)
        assert set(many(late)) == {(503, "1")}
        assert [stream.result() for stream in streams] == 2 * [["length"], ["length", "length"]]
        assert server.process.wait(60) == 0
    assert time.monotonic() - signalled < 60
    assert "Traceback" not in server.log.read_text()


def test_all_end_when_one_is_killed(tmp_path: Path) -> None:
    """With status 1, so that what started them starts them again: half of the connections would be lost."""
    with two_api_servers(tmp_path) as server:
        processes = psutil.Process(server.process.pid).children(recursive=True)
        (killed,) = [one for one in processes if "APIServer_1" in "".join(one.cmdline())]
        killed.kill()
        assert server.process.wait(60) == 1
        _, alive = psutil.wait_procs(processes, 30)
        assert not alive
        log = server.log.read_text()
        assert any(line.startswith("forkpoint serve: ") for line in log.splitlines())
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/health")
