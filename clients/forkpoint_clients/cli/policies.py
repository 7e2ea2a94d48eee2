"""`forkpoint policies [list | show NAME | validate FILE | schema]`, with or without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import ApiKey, MaybeServer
from .output import Format, FormatOption
from .running import app, completion_of, or_list, run_app

application = app("Look at policies, and check your own.", no_args_is_help=False)
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint policies …`. Returns the exit status."""
    return run_app(application, "policies", or_list(arguments))


@application.command("list")
def list_policies(
    server: MaybeServer = None,
    api_key: ApiKey = "none",
    placebos: Annotated[bool, typer.Option("--placebos", help="list the placebo of each policy, too")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """The policies that requests can use by name."""
    from forkpoint_clients.commands import policies

    policies.print_list(server, api_key, placebos, form)


@application.command()
def show(name: str, server: MaybeServer = None, api_key: ApiKey = "none", form: FormatOption = Format.TABLE) -> None:
    """One policy: its rules and parameters, its source, and the limits of its evidence."""
    from forkpoint_clients.commands import policies

    policies.print_policy(name, server, api_key, form)


@application.command()
def validate(
    file: Path, server: MaybeServer = None, api_key: ApiKey = "none", form: FormatOption = Format.TABLE
) -> None:
    """Check a YAML or JSON file with a policy; with a server, also how the served model tokenizes its words."""
    from forkpoint_clients.commands import policies

    policies.print_validation(file, server, api_key, form)


@application.command()
def schema() -> None:
    """The policy language as a JSON Schema."""
    from forkpoint_policies.spec import SCHEMA

    print(SCHEMA.read_text(), end="")
