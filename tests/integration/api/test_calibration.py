"""`forkpoint calibrate` and `/v1/calibration`: a stored fork threshold is used at once, and by the server that starts next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from forkpoint_clients.cli.calibrate import main
from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving

from .puzzles import MESSAGES

KEY = "admin-key"
MARKS = {"rules": [{"when": {"entropy_above": "fork"}, "do": {"observe": {}}}]}
PROFILE: dict[str, Any] = {
    "model": "countdown", "fork_threshold": 0.2, "interval": [0.1, 0.3], "share_below_0_01": 0.7, "tokens": 1000,
    "prompts_digest": "ab",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calibrated")


@pytest.fixture(scope="module")
def own_server(folder: Path) -> Iterator[Server]:
    """Another threshold would be seen by all tests of a shared one."""
    with serving(folder, "--admin-api-key", KEY, environment=ONE_PROCESS) as running:
        yield running


def put(server: Server, body: Any, key: str = KEY) -> httpx.Response:
    return httpx.put(f"{server.api}/calibration", json=body, headers={"Authorization": f"Bearer {key}"})


def marked(server: Server) -> dict[str, Any]:
    """The `forkpoint` object of a request in which a rule fires at forks."""
    asked = {
        "model": "countdown",
        "messages": MESSAGES,
        "temperature": 1,
        "seed": 3,
        "max_tokens": 300,
        "policy": MARKS,
    }
    answer = httpx.post(f"{server.api}/chat/completions", json=asked, timeout=60).raise_for_status().json()
    told: dict[str, Any] = answer["forkpoint"]
    assert told["interventions"]["observe"]["fired"] == told["forks"]
    return told


def test_without_one_the_server_warns(own_server: Server) -> None:
    health = httpx.get(f"{own_server.url}/health")
    assert (health.status_code, health.content) == (200, b"")
    assert "not calibrated" in health.headers["X-Forkpoint-Warning"]
    detailed = httpx.get(f"{own_server.url}/health?details").json()
    assert detailed == {"status": "healthy", "warnings": [health.headers["X-Forkpoint-Warning"]]}
    assert "not calibrated; 0.672 nats is used" in own_server.log.read_text()
    told = httpx.get(f"{own_server.api}/calibration").json()
    assert (told["calibrated"], told["fork_threshold"]) == (False, DEFAULT_FORK_THRESHOLD_NATS)
    assert marked(own_server)["threshold"] == DEFAULT_FORK_THRESHOLD_NATS


def test_wrong_calibrations(own_server: Server) -> None:
    assert put(own_server, PROFILE, key="nope").status_code == 401
    other = put(own_server, {**PROFILE, "model": "other"})
    assert (other.status_code, other.json()["error"]["param"]) == (400, "model")
    assert put(own_server, {**PROFILE, "tokens": "many"}).json()["error"]["param"] == "tokens"
    assert put(own_server, []).status_code == 400


def test_it_is_used_at_once(own_server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    before = marked(own_server)
    assert put(own_server, PROFILE).raise_for_status().json()["fork_threshold"] == 0.2
    after = marked(own_server)
    assert after["threshold"] == 0.2
    assert after["forks"] > before["forks"], "the same tokens, and more of them are forks"
    assert after["tokens"] == before["tokens"]
    assert "X-Forkpoint-Warning" not in httpx.get(f"{own_server.url}/health").headers

    arguments = ["--server", own_server.api, "--tokens", "2000", "--max-tokens", "400", "--at-once", "16"]
    assert main(arguments) == 1, "it has no key"
    assert "admin key" in capsys.readouterr().err
    assert main([*arguments, "--api-key", KEY]) == 0
    stored = httpx.get(f"{own_server.api}/calibration").json()
    assert stored["tokens"] >= 2000
    assert stored["interval"][0] <= stored["fork_threshold"] <= stored["interval"][1]
    assert 0.5 < stored["share_below_0_01"] < 0.85
    assert marked(own_server)["threshold"] == stored["fork_threshold"] != 0.2


def test_arms_of_a_running_experiment_do_not_change_under_it(own_server: Server) -> None:
    arms = [
        {"name": "none", "policy": None, "weight": 0.5},
        {"name": "calm", "policy": "amplify-reflection", "weight": 0.5},
    ]
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, base_url=own_server.api) as admin:
        made = admin.post("/experiments", json={"name": "busy", "unit": "request", "arms": arms, "status": "running"})
        assert made.is_success, made.text
        refused = put(own_server, PROFILE)
        assert (refused.status_code, refused.json()["error"]["param"]) == (409, "fork_threshold")
        assert "busy" in refused.json()["error"]["message"]
        admin.patch("/experiments/busy", json={"status": "stopped"}).raise_for_status()
        assert put(own_server, PROFILE).is_success
        admin.delete("/experiments/busy").raise_for_status()


@pytest.mark.soak
def test_a_later_start_uses_it(own_server: Server, folder: Path) -> None:
    put(own_server, {**PROFILE, "fork_threshold": 0.25}).raise_for_status()
    with serving(folder) as later:
        assert marked(later)["threshold"] == 0.25
        assert "X-Forkpoint-Warning" not in httpx.get(f"{later.url}/health").headers


def test_wrong_arguments(capsys: pytest.CaptureFixture[str], own_server: Server, other_server: Server) -> None:
    for arguments, status, said in (
        (["--tokens", "1"], 2, "1000"),
        (["--server", own_server.api, "--prompts", "nowhere.txt"], 1, "nowhere.txt cannot be read"),
        (["--server", other_server.api], 1, "401"),
        (["--server", other_server.api, "--api-key", "test-key"], 1, "random needs --prompts FILE"),
    ):
        assert main(arguments) == status
        assert said in capsys.readouterr().err.replace("\n", " "), arguments
