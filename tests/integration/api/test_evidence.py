"""`forkpoint evidence` on a real server: all stages on few questions, one page, and again without a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from forkpoint_clients.cli.evidence import main
from forkpoint_clients.evidence.plan import ARMS
from tests.processes.forkpoint_server import Server

FEW = [
    "--data", "countdown:easy", "--model", "countdown", "--finding", "sparse-forks", "--questions", "4",
    "--ab-questions", "3", "--max-tokens", "120", "--note", "Few questions.",
]  # fmt: skip


@pytest.fixture
def calibrated(server: Server) -> Iterator[Server]:
    """The server, whose fork threshold is put back for other tests."""
    before = httpx.get(f"{server.api}/calibration").raise_for_status().json()["fork_threshold"]
    yield server
    profile = {
        "model": "countdown", "fork_threshold": before, "interval": [before, before], "share_below_0_01": 0.7,
        "tokens": 1000, "prompts_digest": "ab",
    }  # fmt: skip
    httpx.put(f"{server.api}/calibration", json=profile).raise_for_status()


def run(server: Server, out: Path, *more: str) -> int:
    return main([*FEW, "--server", server.api, "--out", str(out), *more])


def test_all_stages_and_again(calibrated: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "evidence", tmp_path / "docs" / "countdown.md"
    assert run(calibrated, out, "--budget", "20000", "--markdown", str(page)) == 0
    profile: dict[str, Any] = json.loads((out / "calibration.json").read_text())
    served = httpx.get(f"{calibrated.api}/calibration").json()
    assert profile["tokens"] >= 5000
    assert served["fork_threshold"] == profile["fork_threshold"]
    results: dict[str, Any] = json.loads((out / "arms" / "results.json").read_text())
    assert [arm["arm"] for arm in results["arms"]] == list(ARMS)
    assert {arm["answers"] for arm in results["arms"]} == {3}
    state: dict[str, Any] = json.loads((out / "state.json").read_text())
    assert state["tokens"] > profile["tokens"]
    text = page.read_text()
    assert "Covers calibration, findings, arms." in text
    assert "Few questions." in text
    assert f"Fork threshold **{profile['fork_threshold']:.3f} nats**" in text
    assert "### sparse-forks" in text
    assert "| `nowait.placebo` |" in text
    # all of it is there now, also to a calibration that was interrupted at its end
    (out / "calibration.json").unlink()
    before = calibrated.metrics()
    assert run(calibrated, out, "--budget", "20000") == 0
    after = calibrated.metrics()
    generated = "forkpoint_tokens_total"
    assert {name: value for name, value in after.items() if name.startswith(generated)} == {
        name: value for name, value in before.items() if name.startswith(generated)
    }
    assert json.loads((out / "state.json").read_text())["tokens"] == state["tokens"]
    again = json.loads((out / "calibration.json").read_text())
    assert again == {**profile, "created": again["created"]}
    # another question is another run
    assert run(calibrated, out, "--max-tokens", "64") == 1
    assert "another value of max_tokens" in capsys.readouterr().err
