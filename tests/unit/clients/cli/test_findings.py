"""`forkpoint findings` after failures: what it stores, what it does not mix, and what it reports to the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.cli import findings
from forkpoint_clients.cli.running import RESUMABLE
from tests.unit.clients.stub_server import completion, error, stub_server


@pytest.fixture
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions."""
    file = tmp_path_factory.mktemp("data") / "data.jsonl"
    file.write_text('{"question": "2 + 2?", "answer": "4"}\n{"question": "3 + 3?", "answer": "6"}\n')
    return file


def command(data: Path, out: Path, server: str) -> list[str]:
    return ["dynamics", "--data", str(data), "--retries", "0", "--out", str(out), "--server", server]


def test_a_lost_server_is_reported_with_the_stored_answers(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the default address, too. Before the first answer the likeliest cause is that no server runs there."""
    gone = False

    def route(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        nonlocal gone
        if gone:
            return 503, error("gone")
        gone = path == "/policies/validate"
        return 200, {"object": "list", "data": [], "digest": "3f", "fork_threshold": 0.5, "warnings": []}

    with stub_server(lambda _: (503, error("gone")), route) as server:
        monkeypatch.setattr(findings, "DEFAULT_URL", server.url)
        assert findings.main(command(data, tmp_path, server.url)) == RESUMABLE
    said = capsys.readouterr().err
    assert f"The answers so far are in {tmp_path}; the same command continues from there" in said
    assert "start one with `forkpoint serve`" in said


def test_without_a_server_the_error_says_how_to_start_one(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "http://127.0.0.1:9/v1"
    monkeypatch.setattr(findings, "DEFAULT_URL", nobody)
    assert findings.main(command(data, tmp_path, nobody)) == RESUMABLE
    said = capsys.readouterr().err
    assert "start one with `forkpoint serve`" in said
    assert "answers so far" not in said


def test_a_folder_that_cannot_be_written(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    with stub_server(
        lambda _: (200, completion("4")), lambda path, body: (200, {"data": [], "fork_threshold": 0.5})
    ) as server:
        assert findings.main(command(data, tmp_path / "file", server.url)) == RESUMABLE
    assert "forkpoint findings: cannot write: [Errno " in capsys.readouterr().err


class Policies:
    """Stands in for a server's policies and fork threshold. Both can change."""

    digest, threshold = "3f9c01ab", 0.5

    def route(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        responses = {
            "/policies/validate": {"digest": self.digest, "warnings": []},
            "/calibration": {"fork_threshold": self.threshold},
        }
        trace = {"tokens": ["4"], "positions": [0], "entropies": [0.1], "in_reasoning": [True]}
        return 200, responses.get(path, {"object": "list", "data": [], "choices": [trace]})

    def reply(self, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, completion("4", forkpoint={"digest": self.digest, "threshold": self.threshold, "interventions": {}})


def test_answers_under_other_policies_and_thresholds_are_not_mixed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = Policies()
    with stub_server(policies.reply, policies.route) as server:
        arguments = command(data, tmp_path, server.url)
        assert findings.main(arguments) == 0
        assert findings.main(arguments) == 0
        before = len(server.requests)
        assert before == 2, "and not requested again"
        policies.digest = "77777777"
        assert findings.main(arguments) == 1
        assert "the digest of 'no policy' was 3f9c01ab, is 77777777" in capsys.readouterr().err
        policies.digest, policies.threshold = "3f9c01ab", 0.75
        assert findings.main(arguments) == 1
        assert "another configuration: fork_threshold was 0.5, is 0.75. Give another folder" in capsys.readouterr().err
        assert len(server.requests) == before


def test_one_finding_can_have_more_questions_than_the_others(data: Path, tmp_path: Path) -> None:
    """The answers of the first questions are shared; the report says how many each rests on."""
    policies = Policies()
    with stub_server(policies.reply, policies.route) as server:
        data.write_text(data.read_text() + '{"question": "4 + 4?", "answer": "8"}\n')
        more = [
            "sparse-forks",
            "--questions",
            "2",
            "--questions",
            "sparse-forks=3",
            "--markdown",
            str(tmp_path / "p.md"),
        ]
        assert findings.main([*command(data, tmp_path, server.url), *more]) == 0
        assert len(server.requests) == 3
    results = json.loads((tmp_path / "results.json").read_text())
    counts = {one["name"]: one["claims"][0]["parts"][0]["questions"] for one in results["findings"]}
    assert counts == {"sparse-forks": 3, "dynamics": 0}, "the one token of these answers has none around it"
    assert "--questions 2 --questions sparse-forks=3" in results["command"]
    page = (tmp_path / "p.md").read_text()
    assert "2 questions of" in page
    assert "(sparse-forks: 3)" in page


@pytest.mark.parametrize(
    ("requested", "said"),
    [
        ("nowait=3", "'nowait' is not among the findings of this run: dynamics"),
        ("1", "give a number of at least 2, or the same for one finding: dynamics=100"),
        ("dynamics=many", "give a number of at least 2"),
    ],
)
def test_numbers_of_questions_that_say_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], requested: str, said: str
) -> None:
    assert findings.main([*command(data, tmp_path, "http://127.0.0.1:9/v1"), "--questions", requested]) == 1
    assert said in capsys.readouterr().err
