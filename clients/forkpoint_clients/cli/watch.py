"""`forkpoint watch`: a live view of a server in the terminal."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import openai
import typer
from rich.console import Console
from rich.live import Live

from forkpoint_clients.client import DEFAULT_URL, Forkpoint
from forkpoint_clients.evaluate.asker import error_message
from forkpoint_clients.watch.counters import ScrapeDelta, ScrapeWindow, read
from forkpoint_clients.watch.view import idle_policies, records, show, tables, unreachable

from .options import ApiKey, Server
from .output import Format, FormatOption, print_data
from .running import app, completion_of, fail, run_app

NAME = "watch"
TIMEOUT_SECONDS = 10
WINDOW_SECONDS = 30.0

application = app("Watch what a server does: requests, forks, entropies, policies, branches, arms.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint watch …`. Returns the exit status."""
    return run_app(application, NAME, arguments)


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
    console = Console()
    try:
        with Forkpoint(base_url=server, api_key=api_key, max_retries=0, timeout=TIMEOUT_SECONDS) as client:
            if once:
                _once(client, every if over is None else over, form)
            elif form is not Format.TABLE:
                raise ValueError(f"--format {form} prints one view: add --once")
            else:
                _follow(console, client, every, WINDOW_SECONDS if over is None else over)
    except openai.OpenAIError as error:
        raise fail(NAME, f"{_page(server)}: {error_message(error)}") from None
    except ValueError as error:
        raise fail(NAME, error) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _once(client: Forkpoint, seconds: float, form: Format) -> None:
    window, page = ScrapeWindow(seconds), _page(str(client.base_url))
    _scrape(window, client)
    time.sleep(seconds)
    delta = _scrape(window, client)
    if form is Format.TABLE and sys.stdout.isatty():
        Console().print(show(window, delta, page))
        return
    found, idle = records(delta), idle_policies(delta)
    document = {"server": page, "seconds": delta.seconds, "policies": found, "idle": idle}
    print_data(form, document, found, tables(window, delta, page))
    if form is Format.TABLE and idle:
        print(f"\nidle: {', '.join(idle)}")


def _follow(console: Console, client: Forkpoint, every: float, over: float) -> None:
    window, page = ScrapeWindow(over), _page(str(client.base_url))
    delta = _scrape(window, client)  # a missing server is an error; one that goes away later is waited for
    last_answer = time.monotonic()
    with Live(show(window, delta, page), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            try:
                live.update(show(window, _scrape(window, client), page), refresh=True)
                last_answer = time.monotonic()
            except openai.OpenAIError as error:
                live.update(unreachable(page, error_message(error), time.monotonic() - last_answer), refresh=True)


def _scrape(window: ScrapeWindow, client: Forkpoint) -> ScrapeDelta:
    """Scrape the server once more. Raises ValueError for a page without Forkpoint's metrics."""
    page = _page(str(client.base_url))
    delta = window.add(read(client.get(page, cast_to=str), time.monotonic()))
    if not delta.has("forkpoint_build_info"):
        raise ValueError(f"{page} has no metrics of Forkpoint: is that a Forkpoint server?")
    return delta


def _page(server: str) -> str:
    return f"{server.rstrip('/').removesuffix('/v1')}/metrics"
