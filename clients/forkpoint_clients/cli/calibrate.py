"""`forkpoint calibrate`: measures the served model's fork threshold on your prompts, and stores it on the server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import openai
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forkpoint_clients.calibrate import (
    EMBEDDED_MODEL,
    MIN_PROMPTS,
    Messages,
    Profile,
    digest,
    embedded_prompts,
    measure_answers,
    read_prompts,
    summarise,
)
from forkpoint_clients.client import DEFAULT_URL
from forkpoint_clients.evaluate.asker import Asker, ServerLostError, ServerRefusesError, error_message
from forkpoint_clients.evaluate.datasets import DataError

from .options import ApiKey, Server
from .running import app, fail, run_app

NAME = "calibrate"

application = app("Measure where the served model's forks start, on your prompts.")


def main(arguments: list[str]) -> int:
    """Run `forkpoint calibrate …`; the exit status."""
    return run_app(application, NAME, arguments)


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
    concurrency: Annotated[int, typer.Option("--at-once", min=1, max=512, help="requests at the same time")] = 32,
    api_key: ApiKey = "none",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="measure, and store nothing")] = False,
) -> None:
    """Generate from your prompts at temperature 1, and store the 80th percentile of the entropies as fork threshold."""
    try:
        messages = None if prompts is None else read_prompts(prompts)
        asyncio.run(
            _calibrate(
                messages,
                Asker(server, model or "", api_key=api_key, concurrency=concurrency),
                tokens,
                max_tokens,
                concurrency,
                dry_run,
            )
        )
    except (DataError, ServerLostError, ServerRefusesError, ValueError) as error:
        raise fail(NAME, error) from None
    except openai.OpenAIError as error:
        raise fail(NAME, error_message(error)) from None


async def _calibrate(
    own_prompts: list[Messages] | None,
    closed_asker: Asker,
    tokens: int,
    max_tokens: int | None,
    concurrency: int,
    dry_run: bool,
) -> None:
    console = Console()
    async with closed_asker as asker:
        if not await asker.is_forkpoint():
            raise DataError(
                f"{asker.url} is not a Forkpoint: it lists no policies, and its entropies cannot be measured"
            )
        asker.model = asker.model or (await asker.get("/models"))["data"][0]["id"]
        if own_prompts is None and asker.model != EMBEDDED_MODEL:
            raise DataError(
                f"{asker.model} needs --prompts FILE: a threshold holds for the prompts that it was measured on"
            )
        prompts = embedded_prompts() if own_prompts is None else own_prompts
        if len(prompts) < MIN_PROMPTS:
            console.print(f"Only {len(prompts)} prompts: the interval over prompts will say little.")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("tokens", total=tokens)
            answers = await measure_answers(
                asker, prompts, tokens, concurrency, max_tokens, lambda more: progress.advance(task, more)
            )
        profile = summarise(answers)
        _show(console, asker.model, profile)
        if dry_run:
            console.print("Nothing was stored (--dry-run).")
            return
        await asker.client.put("/calibration", body=profile.to_dict(asker.model, digest(prompts)), cast_to=object)
        console.print(f"Stored: {asker.url} uses it from now on, and whenever it serves this model.", soft_wrap=True)


def _show(console: Console, model: str, profile: Profile) -> None:
    low, high = profile.interval
    console.print(
        f"{model}: fork threshold {profile.fork_threshold:.3f} nats (95 % interval {low:.3f} to {high:.3f}), the 80th "
        f"percentile "
        f"of {profile.tokens:,} tokens in {profile.answers} answers to {profile.prompts} prompts.\n"
        f"{100 * profile.share_below_0_01:.0f} % of the tokens are below 0.01 nats; an answer reasons for "
        f"{profile.mean_reasoning_tokens:.0f} tokens on average (used by alpha-one).",
        soft_wrap=True,
    )
