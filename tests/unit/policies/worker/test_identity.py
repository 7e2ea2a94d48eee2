"""What a worker says when its Forkpoint is not the server's."""

from __future__ import annotations

import pytest

from forkpoint_policies.worker import identity
from forkpoint_policies.worker.endpoint import TELEMETRY_KEY
from forkpoint_policies.worker.identity import DIFFERS, difference, own_channel, own_version


def test_the_same_differs_in_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert difference(own_version(), "") == ""
    monkeypatch.setenv(TELEMETRY_KEY, "a key of the cluster")
    assert difference(own_version(), own_channel()) == ""


def test_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "own_version", lambda: "0.1.0")
    said = difference("0.2.0", "")
    assert said.startswith(DIFFERS)
    assert said.endswith(": version 0.1.0 there, 0.2.0 on the server; install the same on all machines")


@pytest.mark.parametrize(
    ("server", "worker", "problem"),
    [
        ("a key of the server", "", "is set on the server and not there"),
        ("", "a key of the worker", "is set there and not on the server"),
        ("a key of the server", "a key of the worker", "is not the one of the server"),
    ],
)
def test_another_key(server: str, worker: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret itself is neither sent nor said."""
    monkeypatch.setenv(TELEMETRY_KEY, server)
    channel = own_channel()
    monkeypatch.setenv(TELEMETRY_KEY, worker)
    said = difference(own_version(), channel)
    assert f"{TELEMETRY_KEY} {problem}; set the same on all machines, or on none" in said
    assert "'" not in said
    for key in (server, worker):
        assert not key or (key not in said and key not in channel)
