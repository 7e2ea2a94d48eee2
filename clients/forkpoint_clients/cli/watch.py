"""`forkpoint watch`: a live view of a server in the terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from forkpoint_clients.server_address import DEFAULT_URL

from .options import ApiKey, Server
from .output import Format, FormatOption
from .running import app, completion_of, fail, run_app

WINDOW_SECONDS = 30.0

application = app("Watch what a server does: requests, forks, entropies, policies, branches, arms.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint watch …`. Returns the exit status."""
    return run_app(application, "watch", arguments)


@application.command()
def watch(
    server: Server = DEFAULT_URL,
    every: Annotated[float, typer.Option(min=0.1, help="seconds between two scrapes")] = 1.0,
    over: Annotated[
        float | None,
        typer.Option(min=0.1, help=f"seconds over which rates and means are taken; {WINDOW_SECONDS:.0f} by default"),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="print one view, over --over seconds (by default --every), and exit")
    ] = False,
    api_key: ApiKey = "none",
    form: FormatOption = Format.TABLE,
) -> None:
    """Follow a server by its /metrics page, until Ctrl-C."""
    from forkpoint_clients.commands.watch import follow, one_view

    if once:
        one_view(server, every if over is None else over, api_key, form)
    elif form is not Format.TABLE:
        raise fail("watch", f"--format {form} prints one view: add --once")
    else:
        follow(server, every, WINDOW_SECONDS if over is None else over, api_key)
