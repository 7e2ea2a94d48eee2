"""`forkpoint calibrate`: measures the served model's fork threshold on your prompts, and stores it on the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from forkpoint_clients.server_address import DEFAULT_URL

from .options import ApiKey, Server
from .output import Format, FormatOption
from .running import app, completion_of, run_app

application = app("Measure where the served model's forks start, on your prompts.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint calibrate …`; the exit status."""
    return run_app(application, "calibrate", arguments)


@application.command()
def calibrate(
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="your prompts: one a line, or JSONL with `question` or `messages`; the embedded model has its own"
        ),
    ] = None,
    server: Server = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="the model; without it the first that the server lists")] = None,
    tokens: Annotated[int, typer.Option(min=1000, help="how many tokens to measure")] = 50_000,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="the longest answer; without it as long as the model can")
    ] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=512, help="requests at the same time")] = 32,
    api_key: ApiKey = "none",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="measure, and store nothing")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Generate from your prompts at temperature 1, and store the 80th percentile of the entropies as fork threshold."""
    from forkpoint_clients.calibrate import read_prompts
    from forkpoint_clients.commands.calibrate import measure, plain_errors
    from forkpoint_clients.evaluate.asker import Asker

    with plain_errors():
        messages = None if prompts is None else read_prompts(prompts)
        asker = Asker(server, model or "", api_key=api_key, concurrency=concurrency)
        asyncio.run(measure(messages, asker, tokens, max_tokens, concurrency, dry_run, form))
