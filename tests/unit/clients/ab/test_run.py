"""Runs over a data set: requests are in random order, and none is sent twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.ab import run
from forkpoint_clients.ab.arms import Arm, ArmError
from forkpoint_clients.evaluate.asker import Answer, SamplingParams, ServerLostError
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Journal, Unit, read
from tests.unit.clients.stub_server import completion, error, stub_server

ITEMS = [Item(f"q{number}", ({"role": "user", "content": f"{number}?"},), number) for number in range(12)]


ARMS = [Arm("a"), Arm("b"), Arm("c")]


def made_run(url: str = "http://nowhere/v1", **overrides: Any) -> run.RunSpec:
    return run.RunSpec(url, "m", "data.jsonl", ITEMS, ARMS, **{"samples": 3, **overrides})


def test_arms_are_interleaved_in_random_order() -> None:
    units = made_run().units()
    assert len(units) == len(set(units)) == 12 * 3 * 3
    blocks = [units[start : start + 3] for start in range(0, len(units), 3)]
    assert all(len({(unit.question, unit.sample) for unit in block}) == 1 for block in blocks), (
        "a question under all arms at once"
    )
    first = Counter(block[0].arm for block in blocks)
    assert min(first.values()) >= 4, "no arm is always first"
    assert [block[0].sample for block in blocks] == [sample for sample in range(3) for _ in range(12)]
    assert [block[0].question for block in blocks[:12]] != [item.id for item in ITEMS], (
        "not in the order of the data set"
    )
    assert units == made_run().units() != made_run(seed=1).units()


def test_complete_blocks_are_a_prefix_of_the_order() -> None:
    """A later block that is complete already is left out: it may be complete because it is short."""
    units = made_run().units()
    answered = {*units[:7], *units[9:12]}
    assert run.completed_blocks(units, answered) == units[:6]
    assert run.completed_blocks(units, set(units)) == units
    assert run.completed_blocks(units, set()) == []


def test_seeds_are_paired_and_differ() -> None:
    seeds = {run.seed_of(0, item.id, sample) for item in ITEMS for sample in range(50)}
    assert len(seeds) == 12 * 50
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert run.seed_of(0, "q1", 2) == run.seed_of(0, "q1", 2) != run.seed_of(1, "q1", 2)


def test_the_configuration_has_all_that_answers_depend_on_and_no_keys() -> None:
    first = made_run().configuration({"a": None, "b": None, "c": None})
    others = [
        made_run(seed=1).configuration({"a": None, "b": None, "c": None}),
        made_run(samples=4).configuration({"a": None, "b": None, "c": None}),
        made_run(sampling=SamplingParams(temperature=0.5)).configuration({"a": None, "b": None, "c": None}),
        made_run("http://other/v1").configuration({"a": None, "b": None, "c": None}),
        made_run().configuration({"a": None, "b": "3f9c", "c": None}),
    ]
    assert len({json.dumps(one) for one in [first, *others]}) == 6
    secret = run.RunSpec("http://x/v1", "m", "d", ITEMS, [Arm("a", api_key="secret")])
    assert "secret" not in json.dumps(secret.configuration({"a": None}))
    behind = run.RunSpec(
        "https://me:secret@x:81/v1", "m", "d", ITEMS, [Arm("a"), Arm("b", url="http://secret@y/v1?a=b@c")]
    )
    servers = [arm["server"] for arm in behind.configuration({"a": None, "b": None})["arms"]]
    assert servers == ["https://x:81/v1", "http://y/v1?a=b@c"]


async def answers_of(run_: run.RunSpec, folder: Path, concurrency: int = 4, retries: int = 0) -> dict[Unit, Answer]:
    async with AsyncExitStack() as stack:
        prepared = await run.prepare(run_, stack, retries=retries)
        with Journal(folder, prepared.configuration) as journal:
            await run.ask(prepared, journal, concurrency, lambda unit, answer: None)
            return dict(journal.answers)


async def test_nothing_is_requested_twice(tmp_path: Path) -> None:
    """The server dies after every 10 replies; in the end each question has an answer of each arm, all with the same
    seed.

    A reply in flight when another request fails may not arrive, so the number of rounds is random:
    with 4 requests at a time at least 7 of 10 replies arrive.
    """
    replied: list[tuple[str, int]] = []
    lock = threading.Lock()
    limit = 0

    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        with lock:
            if len(replied) >= limit:
                return 503, error("gone")
            replied.append((body["messages"][0]["content"], body["seed"]))
        return 200, completion("4")

    answers: dict[Unit, Answer] = {}
    failures = 0
    with stub_server(reply) as server:
        while not answers:
            limit = len(replied) + 10
            try:
                answers = await answers_of(made_run(server.url), tmp_path)
            except ServerLostError:
                failures += 1
                assert 7 * failures <= len(read(tmp_path / "journal.jsonl").answers) <= len(replied)
    assert set(answers) == set(made_run().units())
    assert 10 <= failures <= 108 // 7
    counts = Counter(replied)
    assert len(counts) == 36
    assert sum(counts.values()) <= 108 + 3 * failures, "only replies that did not arrive are requested again"
    assert all(times >= 3 for times in counts.values())


async def test_a_completed_run_requests_nothing(tmp_path: Path) -> None:
    with stub_server(lambda _: (200, completion("4"))) as server:
        first = await answers_of(made_run(server.url), tmp_path)
        before = len(server.requests)
        assert await answers_of(made_run(server.url), tmp_path) == first
        assert len(server.requests) == before == 108


async def test_arms_that_take_several_requests_are_known() -> None:
    """As the server validates them, placebos among them."""

    def route(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        rules = [] if body is None else [{"action": "probe" if str(body["policy"]).startswith("deer") else "suppress"}]
        return 200, {"data": [], "digest": "3f9c01ab", "warnings": [], "rules": rules}

    arms = [Arm("none"), Arm("calm", "nowait"), Arm("early", "deer"), Arm("p", "deer.placebo")]
    with stub_server(lambda _: (200, completion("4")), route) as server:
        async with AsyncExitStack() as stack:
            prepared = await run.prepare(run.RunSpec(server.url, "m", "d", ITEMS, arms), stack)
    assert prepared.multi_request_arms == {"early", "p"}


async def test_a_policy_needs_a_forkpoint() -> None:
    with stub_server(lambda _: (200, completion("4"))) as server:
        wanting = run.RunSpec(server.url, "m", "d", ITEMS, [Arm("none"), Arm("nowait", "nowait")])
        async with AsyncExitStack() as stack:
            with pytest.raises(ArmError, match=r"the arm 'nowait' has a policy, and .* is not a Forkpoint"):
                await run.prepare(wanting, stack)
