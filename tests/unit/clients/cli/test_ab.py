"""`forkpoint ab` against any server: its files, its output, and interrupted runs."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.cli.ab import RESUMABLE, main
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
        assert len(server.requests) == 80, "another scorer requests nothing"
        assert json.loads((out / "results.json").read_text())["scorer"] == "regex:^4$"


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


def test_a_run_that_never_reached_its_server_leaves_nothing_to_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    assert main([*lines(tmp_path), "--server", nowhere, "--out", str(tmp_path / "out"), "--retries", "0"]) == RESUMABLE
    said = capsys.readouterr().err
    assert f"{nowhere} does not answer" in said
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
