"""What `forkpoint watch` does: scrapes a server's metrics, and shows what they say."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import typer
from rich.console import Console
from rich.live import Live

from forkpoint_clients.cli.output import Format, print_data
from forkpoint_clients.cli.running import fail
from forkpoint_clients.client import Forkpoint
from forkpoint_clients.evaluate.asker import error_message
from forkpoint_clients.watch.counters import ScrapeDelta, ScrapeWindow, read
from forkpoint_clients.watch.view import idle_policies, records, show, tables, unreachable

TIMEOUT_SECONDS = 10


def one_view(server: str, seconds: float, api_key: str, form: Format) -> None:
    """Print the rates and means of so many seconds."""
    window, page = ScrapeWindow(seconds), _page(server)
    with _client(server, api_key) as client:
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


def follow(server: str, every_seconds: float, over_seconds: float, api_key: str) -> None:
    """Show what the server does until Ctrl-C."""
    window, page = ScrapeWindow(over_seconds), _page(server)
    with _client(server, api_key) as client:
        delta = _scrape(window, client)  # a missing server is an error; one that goes away later is waited for
        last_answer = time.monotonic()
        with Live(show(window, delta, page), screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(every_seconds)
                try:
                    live.update(show(window, _scrape(window, client), page), refresh=True)
                    last_answer = time.monotonic()
                except openai.OpenAIError as error:
                    live.update(unreachable(page, error_message(error), time.monotonic() - last_answer), refresh=True)


@contextmanager
def _client(server: str, api_key: str) -> Iterator[Forkpoint]:
    """A client whose errors end the command with a message, and Ctrl-C without one."""
    try:
        with Forkpoint(base_url=server, api_key=api_key, max_retries=0, timeout=TIMEOUT_SECONDS) as client:
            yield client
    except openai.OpenAIError as error:
        raise fail("watch", f"{_page(server)}: {error_message(error)}") from None
    except ValueError as error:
        raise fail("watch", error) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _scrape(window: ScrapeWindow, client: Forkpoint) -> ScrapeDelta:
    """Scrape the server once more. Raises ValueError for a page without Forkpoint's metrics."""
    page = _page(str(client.base_url))
    delta = window.add(read(client.get(page, cast_to=str), time.monotonic()))
    if not delta.has("forkpoint_build_info"):
        raise ValueError(f"{page} has no metrics of Forkpoint: is that a Forkpoint server?")
    return delta


def _page(server: str) -> str:
    return f"{server.rstrip('/').removesuffix('/v1')}/metrics"
