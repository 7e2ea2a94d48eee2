"""`forkpoint policies`, with and without a server."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from forkpoint_clients.cli import policies
from tests.unit.clients.test_client import Requests

JSON = ["--format", "json"]


def test_policies_without_a_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert policies.main([]) == 0
    listed = capsys.readouterr().out
    assert "nowait" in listed
    assert ".placebo" not in listed
    assert policies.main(["--placebos"]) == 0
    assert "nowait.placebo" in capsys.readouterr().out
    assert policies.main(["show", "nowait", *JSON]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "arXiv:2506.08343"
    assert policies.main(["show", "nowait"]) == 0
    assert "\nsource       arXiv:2506.08343\n" in capsys.readouterr().out
    assert policies.main(["show", "nowiat"]) == 1
    assert "there is no policy 'nowiat'; did you mean nowait" in capsys.readouterr().err
    assert policies.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]
    (tmp_path / "own.yaml").write_text("name: own\nrules: [{do: {observe: {}}}]")
    assert policies.main(["validate", str(tmp_path / "own.yaml"), *JSON]) == 0
    assert json.loads(capsys.readouterr().out)["valid"]
    assert policies.main(["validate", str(tmp_path / "own.yaml")]) == 0
    assert capsys.readouterr().out.startswith("valid: own, 1 rule, digest ")
    (tmp_path / "own.yaml").write_text("rules: 3")
    assert policies.main(["validate", str(tmp_path / "own.yaml")]) == 1
    assert "policy.rules: must be a list" in capsys.readouterr().err


def test_a_list_that_no_terminal_shows_has_a_line_per_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """However long the descriptions are: nothing is wrapped or cut."""
    assert policies.main(["list"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "action", "parameters", "source", "description"]
    (row,) = (row for row in rows if row.startswith("nowait "))
    assert row.endswith("Never draws one of 17 reflection words inside the reasoning, in any spelling.")
    assert policies.main(["list", "--format", "csv"]) == 0
    records = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [record["name"] for record in records] == [row.split()[0] for row in rows]
    (record,) = (record for record in records if record["name"] == "nowait")
    assert (record["action"], record["parameters"]) == ("suppress", "")


def test_policies_of_a_server(requests: Requests, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    server = ["--server", "http://there"]
    assert policies.main(["list", *server]) == 0
    assert "\ncalm " in capsys.readouterr().out
    assert policies.main(["show", "calm", *server, *JSON]) == 0
    assert json.loads(capsys.readouterr().out)["novel"] == 1
    (tmp_path / "own.yaml").write_text("rules: [{do: {observe: {}}}]")
    assert policies.main(["validate", str(tmp_path / "own.yaml"), *server]) == 0
    assert capsys.readouterr().out == "valid: calm, 0 rules, digest 3f\nwarning: w\n"
    assert requests[-1] == ("POST", "/v1/policies/validate", {"policy": {"rules": [{"do": {"observe": {}}}]}})
