"""`forkpoint calibrate` and `/v1/calibration`: a stored fork threshold is used at once, and by the next server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from forkpoint_clients.cli.calibrate import main
from forkpoint_server.calibration.profile import EntropyProfile, read_own_profile
from forkpoint_server.demo import WEIGHTS
from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import ADMIN_KEY, Server, serving

MARKS = {"rules": [{"when": {"entropy_above": "fork"}, "do": {"observe": {}}}]}
PROFILE: dict[str, Any] = {
    "model": "countdown", "fork_threshold": 0.2, "interval": [0.1, 0.3], "share_below_0_01": 0.7, "tokens": 1000,
    "prompts_digest": "ab",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(server: Server) -> Iterator[Server]:
    """A server without a stored calibration. That of its model's folder is stored for the tests of other files."""
    yield server
    put(server, own().model_dump(mode="json")).raise_for_status()


def own() -> EntropyProfile:
    found = read_own_profile(WEIGHTS)
    assert found is not None
    return found


def put(server: Server, body: Any, key: str = ADMIN_KEY) -> httpx.Response:
    return httpx.put(f"{server.api}/calibration", json=body, headers={"Authorization": f"Bearer {key}"})


def marked(server: Server) -> dict[str, Any]:
    """The `forkpoint` object of a request in which a rule fires at forks."""
    request_body = {
        "model": "countdown",
        "messages": MESSAGES,
        "temperature": 1,
        "seed": 3,
        "max_tokens": 300,
        "policy": MARKS,
    }
    answer = httpx.post(f"{server.api}/chat/completions", json=request_body, timeout=60).raise_for_status().json()
    summary: dict[str, Any] = answer["forkpoint"]
    assert summary["interventions"]["observe"]["fired"] == summary["forks"]
    return summary


def test_the_embedded_models_own_is_used_without_a_stored_one(server: Server) -> None:
    health = httpx.get(f"{server.url}/health?details")
    assert health.json() == {"status": "healthy", "warnings": []}
    assert "X-Forkpoint-Warning" not in health.headers
    shown = httpx.get(f"{server.api}/calibration").json()
    assert (shown["calibrated"], shown["fork_threshold"]) == (True, own().fork_threshold)
    assert shown["mean_reasoning_tokens"] == own().mean_reasoning_tokens
    assert marked(server)["threshold"] == own().fork_threshold


def test_wrong_calibrations(server: Server) -> None:
    assert put(server, PROFILE, key="nope").status_code == 401
    other = put(server, {**PROFILE, "model": "other"})
    assert (other.status_code, other.json()["error"]["param"]) == (400, "model")
    assert put(server, {**PROFILE, "tokens": "many"}).json()["error"]["param"] == "tokens"
    assert put(server, []).status_code == 400


def test_it_is_used_at_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    before = marked(server)
    assert put(server, PROFILE).raise_for_status().json()["fork_threshold"] == 0.2
    after = marked(server)
    assert after["threshold"] == 0.2
    assert after["forks"] > before["forks"], "the same tokens, and more of them are forks"
    assert after["tokens"] == before["tokens"]
    assert "X-Forkpoint-Warning" not in httpx.get(f"{server.url}/health").headers

    arguments = ["--server", server.api, "--tokens", "2000", "--max-tokens", "400", "--concurrency", "16"]
    assert main(arguments) == 1, "it has no key"
    assert "admin key" in capsys.readouterr().err
    assert main([*arguments, "--api-key", ADMIN_KEY]) == 0
    stored = httpx.get(f"{server.api}/calibration").json()
    assert stored["tokens"] >= 2000
    assert stored["interval"][0] <= stored["fork_threshold"] <= stored["interval"][1]
    assert 0.5 < stored["share_below_0_01"] < 0.85
    assert marked(server)["threshold"] == stored["fork_threshold"] != 0.2


def test_arms_of_a_running_experiment_do_not_change_under_it(server: Server) -> None:
    arms = [
        {"name": "none", "policy": None, "weight": 0.5},
        {"name": "calm", "policy": "amplify-reflection", "weight": 0.5},
    ]
    with httpx.Client(headers={"Authorization": f"Bearer {ADMIN_KEY}"}, base_url=server.api) as admin:
        made = admin.post("/experiments", json={"name": "busy", "unit": "request", "arms": arms, "status": "running"})
        assert made.is_success, made.text
        refused = put(server, PROFILE)
        assert (refused.status_code, refused.json()["error"]["param"]) == (409, "fork_threshold")
        assert "busy" in refused.json()["error"]["message"]
        admin.patch("/experiments/busy", json={"status": "stopped"}).raise_for_status()
        assert put(server, PROFILE).is_success
        admin.delete("/experiments/busy").raise_for_status()


@pytest.mark.soak
def test_a_later_start_uses_it(server: Server, tmp_path: Path) -> None:
    put(server, {**PROFILE, "fork_threshold": 0.25}).raise_for_status()
    with serving(tmp_path, environment={"XDG_DATA_HOME": str(server.log.parent)}) as later:
        assert marked(later)["threshold"] == 0.25
        assert "X-Forkpoint-Warning" not in httpx.get(f"{later.url}/health").headers
