"""A command's help, a wrong option and a missing argument import nothing that only a run of it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from typer.main import get_command

from forkpoint_policies.cli import GROUP, OWN

HEAVY = ("vllm", "torch", "transformers", "openai", "scipy", "statsmodels", "pandas", "matplotlib", "sympy")
"""Each takes a good part of a second to import, or several."""

PROGRAM = """
import json, sys
from forkpoint_policies.cli import main
for words in json.loads(sys.argv[1]):
    try:
        print("exit status", main(words))
    except SystemExit as ended:
        print("exit status", ended.code)
print("imported", sorted(set(json.loads(sys.argv[2])) & sys.modules.keys()))
"""

WRONG = "--no-such-option"


def usages(words: list[str], command: Any) -> Iterator[tuple[list[str], bool]]:
    """A command and its subcommands, each with whether it has a required argument or option."""
    yield words, any(parameter.required for parameter in command.params)
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from usages([*words, name], subcommand)


def commands() -> Iterator[tuple[list[str], bool]]:
    """The commands of all packages, and their subcommands."""
    for entry in entry_points(group=GROUP):
        application = getattr(sys.modules[entry.load().__module__], "application", None)  # `serve` has vLLM's parser
        yield from [([entry.name], False)] if application is None else usages([entry.name], get_command(application))


COMMANDS = list(commands())


def test_all_commands_are_there() -> None:
    names = {words[0] for words, _ in COMMANDS}
    assert {"ab", "evidence", "experiments", "findings", "policies", "serve", "steer", "watch"} <= names
    assert (["readout", "fit"], True) in COMMANDS
    assert not names & set(OWN)


@pytest.mark.parametrize(("words", "incomplete"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_wrong_usage_and_help_import_little(words: list[str], incomplete: bool) -> None:
    lines = [[*words, "-h"], [*words, WRONG], *([words] if incomplete else [])]
    arguments = [json.dumps(lines), json.dumps(HEAVY)]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    printed = done.stdout.splitlines()
    statuses = [line.removeprefix("exit status ") for line in printed if line.startswith("exit status ")]
    assert len(statuses) == len(lines)
    assert statuses[0] == "0"
    assert statuses[1] in ("1", "2")
    assert WRONG in done.stderr
    assert printed[-1] == "imported []"
