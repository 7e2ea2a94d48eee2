"""Runs a subcommand: a typer application with its arguments, to an exit status."""

from __future__ import annotations

import sys
from typing import Any

import typer

FAILED = 1


def run_app(app: typer.Typer, name: str, arguments: list[str]) -> int:
    """Run `forkpoint NAME ARGUMENTS…`. Returns the exit status."""
    try:
        app(args=arguments, prog_name=f"forkpoint {name}")
    except SystemExit as system_exit:
        return system_exit.code if isinstance(system_exit.code, int) else int(bool(system_exit.code))
    return 0


def or_list(arguments: list[str]) -> list[str]:
    """The arguments, with the subcommand `list` if they name none."""
    if arguments and (not arguments[0].startswith("-") or arguments[0] == "--help"):
        return arguments
    return ["list", *arguments]


def app(text: str, **options: Any) -> typer.Typer:
    """An application that shows plain errors, and no shell completion."""
    return typer.Typer(help=text, add_completion=False, pretty_exceptions_enable=False, **options)


def fail(name: str, message: object, status: int = FAILED) -> typer.Exit:
    """Print an error that the user can act on; raise the returned exit."""
    print(f"forkpoint {name}: {message}", file=sys.stderr)
    return typer.Exit(status)
