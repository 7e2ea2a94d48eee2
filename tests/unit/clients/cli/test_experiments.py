"""`forkpoint experiments`: its requests and its output."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import openai
import pytest

from forkpoint_clients.cli import experiments
from tests.unit.clients.test_client import EXPERIMENT, Requests

CHANGES = [
    (["pause", "try"], ("PATCH", "/v1/experiments/try", {"status": "paused"})),
    (["resume", "try"], ("PATCH", "/v1/experiments/try", {"status": "running"})),
    (["stop", "try"], ("PATCH", "/v1/experiments/try", {"status": "stopped"})),
    (["ramp", "try", "calm", "0.25"], ("PATCH", "/v1/experiments/try", {"arms": [{"name": "calm", "weight": 0.25}]})),
    (["delete", "try"], ("DELETE", "/v1/experiments/try", None)),
]


@pytest.mark.parametrize(("arguments", "request_"), CHANGES, ids=[arguments[0] for arguments, _ in CHANGES])
def test_changes(
    requests: Requests, arguments: list[str], request_: tuple[str, str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiments.main(arguments) == 0
    assert requests == [request_]
    assert capsys.readouterr().out.startswith("try is ")


def test_create_by_a_file(requests: Requests, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "try.yaml").write_text("name: try\narms: [{name: plain, weight: 0.5}]\n")
    assert experiments.main(["create", str(tmp_path / "try.yaml"), "--server", "http://other/v1"]) == 0
    assert requests == [("POST", "/v1/experiments", {"name": "try", "arms": [{"name": "plain", "weight": 0.5}]})]
    assert "plain 50.0%, calm 10.0% (paused)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("{", "cannot be read as YAML"), ("[1]", "must hold an object")]
)
def test_files_that_define_nothing(
    requests: Requests, tmp_path: Path, text: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "try.yaml").write_text(text)
    assert experiments.main(["create", str(tmp_path / "try.yaml")]) == 1
    assert said in capsys.readouterr().err
    assert requests == []


def test_list(requests: Requests, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.main([]) == 0
    assert experiments.main(["--server", "http://there/v1"]) == 0
    assert requests == [("GET", "/v1/experiments", None)] * 2
    assert "plain 50%, calm 10% (paused)" in capsys.readouterr().out


def test_show(requests: Requests, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.main(["show", "try"]) == 0
    assert requests == [("GET", "/v1/experiments/try", None)]
    said = capsys.readouterr().out
    for expected in (
        "plain (control)",
        "calm (shadow) (paused)",
        "inline, 3f9c01ab",
        "20",
        "nothing is decided yet",
        "3 units are broken",
        "truncated: read it with care",
    ):
        assert expected in said
    for figure in ("12.5% [10.0%, 20.0%]", "+12.5% [-10.0%, +35.0%]", "0.200", "undecided", "guardrail"):
        assert figure in said


def test_show_says_a_shared_reason_once(
    requests: Requests, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the table, and the verdict alone in its rows."""
    metrics: Any = EXPERIMENT["analysis"]["metrics"]  # type: ignore[index]
    waiting = {
        **metrics["truncated"]["arms"]["calm"]["difference"],
        "verdict": "not yet decided",
        "text": "not yet decided: needs 100 units in each arm, and has 4",
    }
    arms = {"plain": {"mean": 0.1}, "calm": {"mean": 0.2, "difference": waiting}}
    monkeypatch.setitem(EXPERIMENT["analysis"], "metrics", {"tokens": {"arms": arms}, "seconds": {"arms": arms}})  # type: ignore[arg-type]
    assert experiments.main(["show", "try"]) == 0
    said = capsys.readouterr().out
    assert "tokens of calm, seconds of calm: needs 100 units in each arm, and has 4\n" in said
    assert said.count("needs 100 units") == 1
    assert said.count("not yet decided\n") == 2


def test_show_has_the_doses_of_arms_and_placebos(
    requests: Requests, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics: Any = EXPERIMENT["analysis"]["metrics"]  # type: ignore[index]
    decisive = {"role": "decision", "arms": {"plain": {"mean": 0.5}}}
    monkeypatch.setitem(EXPERIMENT["analysis"], "metrics", {**metrics, "correct": decisive})  # type: ignore[arg-type]
    assert experiments.main(["show", "try"]) == 0
    table = capsys.readouterr().out.partition("Policies beside their placebos")[2]
    for figure in (
        "correct, less the placebo's",
        "0.04",
        "0.01",
        "0.25",
        "-0.1 [-0.2, -0.01]",
        "no conclusion",
    ):
        assert figure in table
    monkeypatch.setitem(EXPERIMENT["analysis"], "placebos", [])  # type: ignore[arg-type]
    assert experiments.main(["show", "try"]) == 0
    assert "placebos" not in capsys.readouterr().out


def test_show_as_data(requests: Requests, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.main(["show", "try", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["analysis"]["verdict"] == "nothing is decided yet"
    assert experiments.main(["show", "try", "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["metric"], row["arm"], row["difference_estimate"]) for row in rows] == [
        ("truncated", "plain", ""), ("truncated", "calm", "0.125"),
    ]  # fmt: skip
    assert experiments.main(["show", "try", "--format", "md"]) == 0
    assert "| metric | role | arm | mean |" in capsys.readouterr().out


def test_show_says_how_many_more_requests_an_effect_takes(
    requests: Requests, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiments.main(["show", "try", "--effect", "truncated:0.05", "--effect", "tokens:10"]) == 0
    assert requests == [("GET", "/v1/experiments/try?effect=truncated%3A0.05&effect=tokens%3A10.0", None)]
    said = capsys.readouterr().out
    assert "truncated of calm: 12,345 more requests show an effect of 0.05 with a probability of 80%" in said
    assert "of plain" not in said, "the control has no difference"
    assert "tokens: the experiment has no such metric; it has truncated" in said


@pytest.mark.parametrize("effect", ["truncated", "truncated:", ":1", "truncated:-1", "truncated:nan", "truncated:x"])
def test_an_invalid_effect_is_rejected(requests: Requests, effect: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.main(["show", "try", "--effect", effect]) == 1
    assert f"--effect must be METRIC:SIZE, as in correct:0.05, not {effect!r}" in capsys.readouterr().err
    assert requests == []


def test_show_says_why_the_sample_ratio_is_wrong(
    requests: Requests, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "calm has 9 units where its weight makes one expect 90"
    ratio = {"passed": False, "p_value": 0.0001, "reason": reason}
    monkeypatch.setitem(EXPERIMENT["analysis"], "sample_ratio", ratio)  # type: ignore[arg-type]  # a dict of all kinds
    assert experiments.main(["show", "try"]) == 0
    said = capsys.readouterr().out
    assert "no verdict can be trusted" in said
    assert reason in said
    assert "nothing is decided yet" not in said


def test_a_server_that_does_not_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai._base_client, "DEFAULT_MAX_RETRIES", 0)
    assert experiments.main(["list", "--server", "http://127.0.0.1:9/v1"]) == 1
    assert "forkpoint experiments: http://127.0.0.1:9 does not answer: " in capsys.readouterr().err
