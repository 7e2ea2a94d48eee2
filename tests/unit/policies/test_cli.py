"""The `forkpoint` command: subcommands come from the installed packages."""

from __future__ import annotations

import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from forkpoint_policies.cli import DESCRIPTIONS, GROUP, main

ROOT = Path(__file__).parents[3]

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
    assert "did you mean serve or steer?" in said.err
    assert main(["xyzzy"]) == 2
    known = f"commands: ab, calibrate, completion, evidence, experiments, findings, {installed}, "
    assert known in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["--version", "-V", "version"])
def test_version(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([argument]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"forkpoint {version('forkpoint-policies')} (forkpoint-server ")
    assert f"forkpoint-clients {version('forkpoint-clients')}, vLLM " in said


def test_arguments_of_the_process_are_the_default(
    installed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["forkpoint", installed, "0", "x"])
    assert main() == 0
    assert capsys.readouterr().out == "ran with ['0', 'x']\n"


def test_help_describes_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of all packages of this repository, whatever is installed."""
    offered = [
        name
        for package in ("server", "clients")
        for name in tomllib.loads((ROOT / package / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    ]
    assert {"serve", "ab", "watch"} <= set(offered) <= DESCRIPTIONS.keys()
    assert main([]) == 0
    assert f"  ab           {DESCRIPTIONS['ab']}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ex"], ["experiments"]),
        (["completion", "f"], ["fish"]),
        (["experiments", "p"], ["pause"]),
        (["policies", "list", "--pl"], ["--placebos"]),
        (["policies", "list", "--format", "j"], ["json"]),
        (["nope", ""], []),
        (["frobnicate", ""], []),
    ],
)
def test_completion(installed: str, words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", *words]) == 0
    assert capsys.readouterr().out.split() == expected


def test_completion_in_bash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script asks the `forkpoint` on the path with the words before the cursor."""
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    (tmp_path / "forkpoint").write_text('#!/bin/sh\necho "$#:$1:$2:$3"\n')
    (tmp_path / "forkpoint").chmod(0o755)
    script = (
        f"source {tmp_path / 'completion'}; COMP_WORDS=(forkpoint ab --ar); COMP_CWORD=2; _forkpoint; "
        'echo "${COMPREPLY[@]}"; complete -p forkpoint'
    )
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["bash", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["3:__complete:ab:--ar", "complete -o default -F _forkpoint forkpoint"]
    assert main(["completion", "tcsh"]) == 2
    assert "usage: forkpoint completion bash|zsh|fish" in capsys.readouterr().err
