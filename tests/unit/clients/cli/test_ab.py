"""`forkpoint ab` against any server: its files, its output, and interrupted runs."""

from __future__ import annotations

import csv
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.cli.ab import main
from forkpoint_clients.cli.running import RESUMABLE
from forkpoint_clients.commands.ab import ONE_ARM
from forkpoint_clients.evaluate.journal import read
from tests.processes.forkpoint_server import free_port
from tests.unit.clients.stub_server import completion, error, stub_server


def lines(tmp_path: Path) -> list[str]:
    file = tmp_path / "data.jsonl"
    file.write_text(
        "".join(json.dumps({"question": f"{number}?", "answer": str(number % 5)}) + "\n" for number in range(40))
    )
    return ["--data", str(file), "--arm", "none", "--arm", "again=none", "--scorer", "number", "--model", "m"]


@pytest.mark.slow
def test_the_command_against_any_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Results and page are those of the journal; no request has fields that only Forkpoint knows."""
    with stub_server(lambda body: (200, completion(str(body["seed"] % 5), tokens=body["seed"] % 90))) as server:
        out = tmp_path / "out"
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(out)]) == 0
        assert all(set(body) == {"model", "messages", "seed", "temperature"} for body in server.requests)
        results = json.loads((out / "results.json").read_text())
        answers = read(out / "journal.jsonl").answers
        right = [
            answer.text == str((int(unit.question.removeprefix("line-")) - 1) % 5) for unit, answer in answers.items()
        ]
        assert len(right) == 80
        assert sum(right) / 80 == results["arms"][0]["correct"]["value"] == results["arms"][1]["correct"]["value"] > 0
        assert results["differences"][0]["correct"]["value"] == 0
        assert "again" in (out / "report.html").read_text()
        printed = capsys.readouterr().out
        assert all(f"warning: {warning}" in printed for warning in results["warnings"])
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(out), "--seed", "2"]) == 1
        assert "seed was 0, is 2" in capsys.readouterr().err
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
        assert len(server.requests) == 80, "another scorer requests nothing"
        assert json.loads((out / "results.json").read_text())["scorer"] == "regex:^4$"


def test_a_run_of_one_arm_says_that_nothing_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stub_server(lambda _: (200, completion("1"))) as server:
        command = [*lines(tmp_path), "--server", server.url, "--out", str(tmp_path / "out"), "--limit", "2"]
        assert main(command) == 0
        assert ONE_ARM not in "".join(capsys.readouterr())
        alone = [*command[:4], *command[6:]]
        assert alone.count("--arm") == 1
        assert main(alone) == 0
        assert ONE_ARM in "".join(capsys.readouterr())


def test_a_run_whose_server_dies_can_be_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = False
    with stub_server(
        lambda _: (503, error("gone")) if gone or len(server.requests) > 30 else (200, completion("1"))
    ) as server:
        command = [*lines(tmp_path), "--server", server.url, "--out", str(tmp_path / "out"), "--retries", "0"]
        assert main(command) == RESUMABLE
        printed, said = capsys.readouterr()
        assert "does not answer" in said
        assert "the same command continues from there" in said
        assert "warning: The run is not complete" in printed
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        assert 0 < results["answered"] < results["asked"] == 80
        assert "not complete" in results["warnings"][0]


def test_a_run_grows_and_shrinks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More questions, samples and arms request only what is missing; fewer request nothing and report on less."""
    out = tmp_path / "out"

    def results(*more: str) -> dict[str, Any]:
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(out), *more]) == 0
        found: dict[str, Any] = json.loads((out / "results.json").read_text())
        return found

    with stub_server(lambda body: (200, completion(str(body["seed"] % 5), tokens=body["seed"] % 90))) as server:
        assert not [w for w in results("--limit", "10")["warnings"] if "added" in w]
        assert len(server.requests) == 20
        bigger = results("--limit", "15")
        assert len(server.requests) == 30
        (added,) = (warning for warning in bigger["warnings"] if "added" in warning)
        assert "added after results had been seen (10, then 15 per arm)" in added
        assert results("--limit", "15", "--samples", "2")["answered"] == 60
        assert len(server.requests) == 60
        capsys.readouterr()
        third = results("--limit", "15", "--samples", "2", "--arm", "third=none")
        assert len(server.requests) == 90, "only the new arm's, not a copy of another arm without a policy"
        assert any(warning.startswith("third: added later") for warning in third["warnings"])
        fewer = results("--limit", "5")
        assert len(server.requests) == 90
        assert (fewer["asked"], fewer["answered"], len(fewer["arms"])) == (10, 10, 2)
        assert "This shows 5 of the 30 answers per arm that were requested." in fewer["warnings"]
        assert "the arm 'third' is in the folder, not in the command: it is left out" in capsys.readouterr().err


def test_changed_questions_are_never_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    with stub_server(lambda body: (200, completion("1"))) as server:
        command = [*lines(tmp_path), "--server", server.url, "--out", str(out)]
        assert main(command) == 0
        file = tmp_path / "data.jsonl"
        file.write_text(file.read_text().replace('"3?"', '"3!"'))
        assert main(command) == 1
        assert "1 questions have other texts than when they were answered ('line-4')" in capsys.readouterr().err
        file.write_text(json.dumps({"id": "other", "question": "?", "answer": "1"}) + "\n")
        assert main(command) == 1
        assert "none of its 40 questions (of " in capsys.readouterr().err
        assert (
            main([*lines(tmp_path), "--server", server.url.replace("127.0.0.1", "localhost"), "--out", str(out)]) == 1
        )
        assert "server of the arm 'none' was http://127.0.0.1" in capsys.readouterr().err
        assert len(server.requests) == 80


def test_progress_without_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts and speed on stderr, and nothing about who is right."""
    with stub_server(lambda body: (200, completion("1", finish_reason="length"))) as server:
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert "forkpoint ab: 80 of 80 answers, " in said
    assert " tokens/s, about 0 s left; none 40, again 40; 80 cut off, 0 errors" in said


@pytest.mark.parametrize("form", ["json", "csv", "md"])
def test_data_in_other_forms(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the data is on stdout."""
    with stub_server(lambda body: (200, completion(str(body["seed"] % 5), tokens=30))) as server:
        out = tmp_path / "out"
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(out), "--format", form]) == 0
    printed = capsys.readouterr().out
    results = json.loads((out / "results.json").read_text())
    if form == "json":
        assert json.loads(printed) == results
    elif form == "csv":
        rows = list(csv.DictReader(printed.splitlines()))
        assert [row["arm"] for row in rows] == ["none", "again"]
        assert float(rows[1]["correct_value"]) == results["arms"][1]["correct"]["value"]
        assert float(rows[1]["difference_correct_value"]) == 0
        assert rows[0]["difference_correct_value"] == ""
    else:
        assert "| arm | right | tokens |" in printed
        assert printed.count("\n| ---") == 2


def test_an_interrupted_run_reports_on_complete_blocks_without_p(tmp_path: Path) -> None:
    """Right answers are short and end first: of those that ended, all are right; of complete blocks, as many as are."""
    with stub_server(
        lambda body: (503, error("gone")) if len(server.requests) > 41 else (200, completion(str(body["seed"] % 2)))
    ) as server:
        command = [*lines(tmp_path), "--server", server.url, "--out", str(tmp_path), "--retries", "0"]
        assert main([*command, "--concurrency", "1"]) == RESUMABLE
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["interim"]
    assert (results["answered"], results["compared"]) == (41, 40)
    assert results["differences"][0]["pairs"] == 20
    assert results["differences"][0]["correct"]["p"] is None
    assert results["differences"][0]["correct_p_holm"] is None
    assert results["caps"] == []


def test_a_run_that_never_reached_its_server_leaves_nothing_to_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    started_at = time.monotonic()
    assert main([*lines(tmp_path), "--server", nowhere, "--out", str(tmp_path / "out")]) == RESUMABLE
    assert time.monotonic() - started_at < 15, "and not after all retries of a run"
    said = capsys.readouterr().err
    assert f"{nowhere}/v1 does not answer: " in said
    assert "tries" not in said
    assert "answers so far" not in said


@pytest.mark.parametrize("out", ["a file", "full"])
def test_a_run_whose_output_cannot_be_written_can_be_continued(
    tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    if out == "full":

        def full(*_: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
    with stub_server(lambda _: (200, completion("1"))) as server:
        assert main([*lines(tmp_path), "--server", server.url, "--out", str(tmp_path / out)]) == RESUMABLE
    said = capsys.readouterr().err
    assert said.startswith("forkpoint ab: cannot write: [Errno ")
    assert "the same command continues from there" in said


def test_texts_that_no_encoding_has(tmp_path: Path) -> None:
    reply = [(200, completion("\ud83d 1")), (400, error("no \ud83d"))]
    with stub_server(lambda body: reply[body["seed"] % 2]) as server:
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
