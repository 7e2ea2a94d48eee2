"""How subcommands run and end."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_clients.cli import experiments, policies


@pytest.mark.parametrize("main", [policies.main, experiments.main])
def test_unknown_subcommands(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == 2
    assert "No such command 'frobnicate'" in capsys.readouterr().err
