"""The `forkpoint` command: subcommands come from the installed packages."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from forkpoint_policies.cli import main

PROGRAM = """
def run(arguments):
    print("ran with", arguments)
    return int(arguments[0]) if arguments else None
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that offers the subcommand `frobnicate`, installed as any other."""
    (tmp_path / "frobnication.py").write_text(PROGRAM)
    metadata = tmp_path / "frobnication-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: frobnication\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[forkpoint.commands]\nfrobnicate = frobnication:run\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "frobnicate"


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["3"], 3), (["0", "--flag"], 0)])
def test_a_subcommand_gets_its_arguments(
    installed: str, arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([installed, *arguments]) == status
    assert capsys.readouterr().out == f"ran with {arguments}\n"


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_names_the_commands(installed: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "usage: forkpoint COMMAND" in said.out
    assert installed in said.out
    assert said.err == ""


def test_an_unknown_command_is_an_error_that_names_the_known(
    installed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sevre", "MODEL"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no command 'sevre'" in said.err
    assert installed in said.err


@pytest.mark.parametrize("argument", ["--version", "version"])
def test_version(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 0
    assert capsys.readouterr().out == version("forkpoint-policies") + "\n"


def test_arguments_of_the_process_are_the_default(
    installed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["forkpoint", installed, "0", "x"])
    assert main() == 0
    assert capsys.readouterr().out == "ran with ['0', 'x']\n"
