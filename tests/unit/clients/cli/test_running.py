"""How subcommands run and end."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_clients.cli import ab, calibrate, experiments, findings, policies, watch


@pytest.mark.parametrize("main", [policies.main, experiments.main])
def test_unknown_subcommands(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == 2
    assert "No such command 'frobnicate'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [ab, calibrate, experiments, findings, policies, watch])
def test_h_is_help_everywhere(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["-h"]) == 0
    assert "Usage: forkpoint" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["show", "-h"], ["list", "-h"]])
def test_h_is_help_of_subcommands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert policies.main(arguments) == 0
    assert f"Usage: forkpoint policies {arguments[0]}" in capsys.readouterr().out


def test_a_misspelt_subcommand_suggests_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert policies.main(["validat"]) == 2
    assert "Did you mean 'validate'" in capsys.readouterr().err
