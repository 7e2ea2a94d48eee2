"""Runs a subcommand: a typer application with its arguments, to an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from typing import Any

import typer
from typer.main import get_command

FAILED = 1
RESUMABLE = 3
"""The exit status of a run that the same command resumes."""
INTERRUPTED = 130


def run_app(app: typer.Typer, name: str, arguments: list[str]) -> int:
    """Run `forkpoint NAME ARGUMENTS…`. Returns the exit status."""
    try:
        app(args=arguments, prog_name=f"forkpoint {name}")
    except SystemExit as system_exit:
        return system_exit.code if isinstance(system_exit.code, int) else int(bool(system_exit.code))
    return 0


def or_list(arguments: list[str]) -> list[str]:
    """The arguments, with the subcommand `list` if they name none."""
    if arguments and (not arguments[0].startswith("-") or arguments[0] in ("--help", "-h")):
        return arguments
    return ["list", *arguments]


def app(text: str, **options: Any) -> typer.Typer:
    """An application that shows plain errors; `-h` is help. `forkpoint completion` completes for all of them."""
    settings = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(
        help=text, add_completion=False, pretty_exceptions_enable=False, context_settings=settings, **options
    )


def completion_of(app: typer.Typer) -> Callable[[list[str]], list[str]]:
    """What the shell can complete: a function of the words after the command, of which the last is unfinished."""

    def complete(words: list[str]) -> list[str]:
        command: Any = get_command(app)
        *before, last = words
        for word in before:
            command = getattr(command, "commands", {}).get(word, command)
        options = {name: parameter for parameter in command.params for name in parameter.opts}
        if before and before[-1] in options:  # its value
            default = options[before[-1]].default
            known = [str(choice.value) for choice in type(default)] if isinstance(default, Enum) else []
        elif last.startswith("-"):
            known = [name for name in options if name.startswith("-")] + ["--help"]
        else:
            known = list(getattr(command, "commands", {}))
        return [word for word in known if word.startswith(last)]

    return complete


def fail(name: str, message: object, status: int = FAILED) -> typer.Exit:
    """Print an error that the user can act on; raise the returned exit."""
    print(f"forkpoint {name}: {message}", file=sys.stderr)
    return typer.Exit(status)
