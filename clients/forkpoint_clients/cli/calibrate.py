"""`forkpoint calibrate`: measures the served model's fork threshold on your prompts, and stores it on the server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from rich.console import Console
from rich.table import Table

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
from .output import Format, FormatOption, print_data
from .progress import counting
from .running import app, completion_of, fail, run_app

NAME = "calibrate"

application = app("Measure where the served model's forks start, on your prompts.")
complete = completion_of(application)


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
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=512, help="requests at the same time")] = 32,
    api_key: ApiKey = "none",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="measure, and store nothing")] = False,
    form: FormatOption = Format.TABLE,
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
                form,
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
    form: Format,
) -> None:
    console = Console(stderr=True)
    async with closed_asker as asker:
        await asker.reach()
        if not await asker.is_forkpoint():
            raise DataError(
                f"{asker.url} is not a Forkpoint server: it lists no policies, and its entropies cannot be measured"
            )
        asker.model = asker.model or (await asker.get("/models"))["data"][0]["id"]
        if own_prompts is None and asker.model != EMBEDDED_MODEL:
            raise DataError(
                f"{asker.model} needs --prompts FILE: a threshold holds for the prompts that it was measured on"
            )
        prompts = embedded_prompts() if own_prompts is None else own_prompts
        if len(prompts) < MIN_PROMPTS:
            few = "1 prompt is" if len(prompts) == 1 else f"{len(prompts)} prompts are"
            console.print(f"{few} few: the interval over prompts will say little.")
        async with counting(NAME, "tokens", tokens, asker.url) as advance:
            answers = await measure_answers(
                asker, prompts, tokens, concurrency, max_tokens, lambda _, answer: advance(len(answer.entropies))
            )
        profile = summarise(answers)
        body = profile.to_dict(asker.model, digest(prompts))
        if form is Format.TABLE:
            print(describe(asker.model, profile))
        else:
            print_data(form, body, [body], [_fields(body)])
        if dry_run:
            console.print("Nothing was stored (--dry-run).")
            return
        await asker.client.put("/calibration", body=body, cast_to=object)
        console.print(f"Stored: {asker.url} uses it from now on, and whenever it serves this model.", soft_wrap=True)


def describe(model: str, profile: Profile) -> str:
    """A profile in two lines. Of one prompt there is no interval."""
    low, high = profile.interval
    interval = f"95% interval {low:.3f} to {high:.3f}" if profile.prompts > 1 else "no interval: it needs more prompts"
    return (
        f"{model}: fork threshold {profile.fork_threshold:.3f} nats ({interval}), the 80th percentile of "
        f"{profile.tokens:,} tokens in {profile.answers} answers to {profile.prompts} prompts.\n"
        f"{100 * profile.share_below_0_01:.0f}% of the tokens are below 0.01 nats; an answer reasons for "
        f"{profile.mean_reasoning_tokens:.0f} tokens on average (used by alpha-one)."
    )


def _fields(record: Mapping[str, Any]) -> Table:
    table = Table("field", "value")
    for name, value in record.items():
        table.add_row(name, str(value))
    return table
