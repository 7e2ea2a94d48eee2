"""How a subcommand runs: a typer application, given its arguments, to its exit status."""

from __future__ import annotations

import sys
from typing import Any

import typer

FAILED = 1


def run_app(app: typer.Typer, name: str, arguments: list[str]) -> int:
    """Run `forkpoint NAME ARGUMENTS…`; the exit status."""
    try:
        app(args=arguments, prog_name=f"forkpoint {name}")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    return 0


def or_list(arguments: list[str]) -> list[str]:
    """With `list` where no subcommand is named."""
    return (
        arguments
        if arguments and (not arguments[0].startswith("-") or arguments[0] == "--help")
        else ["list", *arguments]
    )


def app(text: str, **options: Any) -> typer.Typer:
    """An application that shows errors as they are, without offering to install anything."""
    return typer.Typer(help=text, add_completion=False, pretty_exceptions_enable=False, **options)


def fail(name: str, message: object, status: int = FAILED) -> typer.Exit:
    """What to raise when a command ends for a reason that its user can do something about."""
    print(f"forkpoint {name}: {message}", file=sys.stderr)
    return typer.Exit(status)
