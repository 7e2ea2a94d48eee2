"""Runs over a data set: what is asked in which order, and that nothing is asked twice."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.ab import run
from forkpoint_clients.ab.arms import Arm, ArmError
from forkpoint_clients.cli.ab import RESUMABLE, main
from forkpoint_clients.evaluate.asker import Answer, SamplingParams, ServerLostError
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Journal, Unit, read
from tests.processes.forkpoint_server import free_port
from tests.unit.clients.stub_server import completion, error, scripted

ITEMS = [Item(f"q{number}", ({"role": "user", "content": f"{number}?"},), number) for number in range(12)]
ARMS = [Arm("a"), Arm("b"), Arm("c")]


def made_run(url: str = "http://nowhere/v1", **given: Any) -> run.RunSpec:
    return run.RunSpec(url, "m", "data.jsonl", ITEMS, ARMS, **{"samples": 3, **given})


def test_arms_take_turns_in_an_order_of_chance() -> None:
    units = made_run().units()
    assert len(units) == len(set(units)) == 12 * 3 * 3
    blocks = [units[place : place + 3] for place in range(0, len(units), 3)]
    assert all(len({(unit.question, unit.sample) for unit in block}) == 1 for block in blocks), (
        "a question under all arms at once"
    )
    first = Counter(block[0].arm for block in blocks)
    assert min(first.values()) >= 4, "none of the arms is always first"
    assert [block[0].sample for block in blocks] == [sample for sample in range(3) for _ in range(12)]
    assert [block[0].question for block in blocks[:12]] != [item.id for item in ITEMS], "no order of the data set's own"
    assert units == made_run().units() != made_run(seed=1).units()


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


async def asked(run_: run.RunSpec, folder: Path, at_once: int = 4, retries: int = 0) -> dict[Unit, Answer]:
    async with AsyncExitStack() as stack:
        prepared = await run.prepare(run_, stack, retries=retries)
        with Journal(folder, prepared.configuration) as journal:
            await run.ask(prepared, journal, at_once, lambda unit, answer: None)
            return dict(journal.answers)


async def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    """The server dies after every 10 replies; in the end each question has an answer of each arm, all with the same seed.

    A reply that is on its way when another request fails may not arrive, so how many rounds it takes is left to chance:
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
    with scripted(reply) as server:
        while not answers:
            limit = len(replied) + 10
            try:
                answers = await asked(made_run(server.url), tmp_path)
            except ServerLostError:
                failures += 1
                assert 7 * failures <= len(read(tmp_path / "journal.jsonl")[1]) <= len(replied)
    assert set(answers) == set(made_run().units())
    assert 10 <= failures <= 108 // 7
    counts = Counter(replied)
    assert len(counts) == 36
    assert sum(counts.values()) <= 108 + 3 * failures, "only replies that did not arrive are requested again"
    assert all(times >= 3 for times in counts.values())


async def test_a_run_that_ended_asks_nothing(tmp_path: Path) -> None:
    with scripted(lambda _: (200, completion("4"))) as server:
        first = await asked(made_run(server.url), tmp_path)
        before = len(server.asked)
        assert await asked(made_run(server.url), tmp_path) == first
        assert len(server.asked) == before == 108


async def test_arms_that_take_several_requests_are_known() -> None:
    """As the server validates them, placebos among them."""

    def route(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        rules = [] if body is None else [{"action": "probe" if str(body["policy"]).startswith("deer") else "suppress"}]
        return 200, {"data": [], "digest": "3f9c01ab", "warnings": [], "rules": rules}

    asked_arms = [Arm("none"), Arm("calm", "nowait"), Arm("early", "deer"), Arm("p", "deer.placebo")]
    with scripted(lambda _: (200, completion("4")), route) as server:
        async with AsyncExitStack() as stack:
            prepared = await run.prepare(run.RunSpec(server.url, "m", "d", ITEMS, asked_arms), stack)
    assert prepared.several == {"early", "p"}


async def test_a_policy_needs_a_forkpoint() -> None:
    with scripted(lambda _: (200, completion("4"))) as server:
        wanting = run.RunSpec(server.url, "m", "d", ITEMS, [Arm("none"), Arm("nowait", "nowait")])
        async with AsyncExitStack() as stack:
            with pytest.raises(ArmError, match=r"the arm 'nowait' has a policy, and .* is no Forkpoint"):
                await run.prepare(wanting, stack)


def lines(tmp_path: Path) -> list[str]:
    file = tmp_path / "data.jsonl"
    file.write_text(
        "".join(json.dumps({"question": f"{number}?", "answer": str(number % 5)}) + "\n" for number in range(40))
    )
    return ["--data", str(file), "--arm", "none", "--arm", "again=none", "--scorer", "number", "--model", "m"]


def test_the_command_against_any_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results and page are those of the journal; the server is asked for nothing that only Forkpoint knows."""
    with scripted(lambda body: (200, completion(str(body["seed"] % 5), tokens=body["seed"] % 90))) as server:
        out = tmp_path / "out"
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(out)]) == 0
        assert all(set(body) == {"model", "messages", "seed", "temperature"} for body in server.asked)
        results = json.loads((out / "results.json").read_text())
        answers = read(out / "journal.jsonl")[1]
        right = [
            answer.text == str((int(unit.question.removeprefix("line-")) - 1) % 5) for unit, answer in answers.items()
        ]
        assert len(right) == 80
        assert sum(right) / 80 == results["arms"][0]["correct"]["value"] == results["arms"][1]["correct"]["value"] > 0
        assert results["differences"][0]["correct"]["value"] == 0
        assert "again" in (out / "report.html").read_text()
        printed = capsys.readouterr().out
        assert all(f"warning: {warning}" in printed for warning in results["warnings"])
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(out), "--samples", "2"]) == 1
        assert "samples was 1, is 2" in capsys.readouterr().err
        assert (
            main(
                [
                    *lines(tmp_path)[:-4],
                    "--scorer",
                    "regex:^4$",
                    "--model",
                    "m",
                    "--server",
                    server.url,
                    "--out",
                    str(out),
                ]
            )
            == 0
        )
        assert len(server.asked) == 80, "another scorer asks nothing"
        assert json.loads((out / "results.json").read_text())["scorer"] == "regex:^4$"


def test_a_server_that_dies_leaves_what_can_be_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = False
    with scripted(
        lambda _: (503, error("gone")) if gone or len(server.asked) > 30 else (200, completion("1"))
    ) as server:
        command = [*lines(tmp_path), "--server", server.url, "--out", str(tmp_path / "out"), "--retries", "0"]
        assert main(command) == RESUMABLE
        printed, said = capsys.readouterr()
        assert "does not answer" in said
        assert "the same command goes on from there" in said
        assert "warning: The run is not complete" in printed
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        assert 0 < results["answered"] < results["asked"] == 80
        assert "not complete" in results["warnings"][0]


def test_a_server_that_was_never_there_leaves_nothing_to_go_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    assert main([*lines(tmp_path), "--server", nowhere, "--out", str(tmp_path / "out"), "--retries", "0"]) == RESUMABLE
    said = capsys.readouterr().err
    assert f"{nowhere} does not answer" in said
    assert "answers so far" not in said


@pytest.mark.parametrize("out", ["a file", "full"])
def test_what_cannot_be_written_can_be_gone_on_with(
    tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    if out == "full":

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
    with scripted(lambda _: (200, completion("1"))) as server:
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(tmp_path / out)]) == RESUMABLE
    said = capsys.readouterr().err
    assert said.startswith("forkpoint ab: cannot write: [Errno ")
    assert "the same command goes on from there" in said


def test_texts_that_no_encoding_has(tmp_path: Path) -> None:
    reply = [(200, completion("\ud83d 1")), (400, error("no \ud83d"))]
    with scripted(lambda body: reply[body["seed"] % 2]) as server:
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(tmp_path / "out")]) == 0
    assert "the server: no \ud83d" in json.loads((tmp_path / "out" / "results.json").read_text())["failures"]
    assert "no \\ud83d" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scorer", "guess"], "there is no scorer 'guess'"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
        (["--extra", "[1]"], "--extra: must be an object"),
        (["--extra", "{"], "--extra: is not JSON"),
        (["--arm", "none"], "two arms are called 'none'"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*lines(tmp_path), *arguments, "--out", str(tmp_path / "out")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
