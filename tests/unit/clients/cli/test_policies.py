"""`forkpoint policies`, with and without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forkpoint_clients.cli import policies
from tests.unit.clients.test_client import Requests


def test_policies_without_a_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert policies.main([]) == 0
    assert "nowait.placebo" in capsys.readouterr().out
    assert policies.main(["show", "nowait"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "arXiv:2506.08343"
    assert policies.main(["show", "nope"]) == 1
    assert "there is no policy 'nope'; there are adaptive-consistency" in capsys.readouterr().err
    assert policies.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]
    (tmp_path / "own.yaml").write_text("rules: [{do: {observe: {}}}]")
    assert policies.main(["validate", str(tmp_path / "own.yaml")]) == 0
    assert json.loads(capsys.readouterr().out)["valid"]
    (tmp_path / "own.yaml").write_text("rules: 3")
    assert policies.main(["validate", str(tmp_path / "own.yaml")]) == 1
    assert "policy.rules: must be a list" in capsys.readouterr().err


def test_policies_of_a_server(requests: Requests, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    server = ["--server", "http://there/v1"]
    assert policies.main(["list", *server]) == 0
    assert capsys.readouterr().out.startswith("calm ")
    assert policies.main(["show", "calm", *server]) == 0
    assert json.loads(capsys.readouterr().out)["novel"] == 1
    (tmp_path / "own.yaml").write_text("rules: [{do: {observe: {}}}]")
    assert policies.main(["validate", str(tmp_path / "own.yaml"), *server]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == ["w"]
    assert requests[-1] == ("POST", "/v1/policies/validate", {"policy": {"rules": [{"do": {"observe": {}}}]}})
