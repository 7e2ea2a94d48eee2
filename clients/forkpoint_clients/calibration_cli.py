"""`forkpoint calibrate`: measures the served model's fork threshold on your prompts, and stores it on the server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .asking import Asker, ServerLostError, ServerRefusesError
from .calibration import EMBEDDED_MODEL, FEWEST_PROMPTS, Messages, Profile, digest, embedded_prompts, read_prompts, summarise, write
from .client import DEFAULT_URL
from .datasets import DataError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def calibrate(
    prompts: Annotated[
        Path | None,
        typer.Option(help="your prompts: one a line, or JSONL with `question` or `messages`; the embedded model has its own"),
    ] = None,
    server: Annotated[str, typer.Option(metavar="URL", help="the server's API")] = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="the model; without it the first that the server lists")] = None,
    tokens: Annotated[int, typer.Option(min=1000, help="how many tokens to measure")] = 50_000,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="the longest answer; without it as long as the model can")] = None,
    at_once: Annotated[int, typer.Option(min=1, max=512, help="requests at the same time")] = 32,
    api_key: Annotated[str, typer.Option(envvar="OPENAI_API_KEY", help="the server's API key")] = "none",
    admin_api_key: Annotated[
        str | None, typer.Option(envvar="FORKPOINT_ADMIN_API_KEY", help="the key that stores it, where the server has one")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="measure, and store nothing")] = False,
) -> None:
    """Generate from your prompts at temperature 1, and store the 80th percentile of the entropies as the model's fork threshold."""
    given = None if prompts is None else read_prompts(prompts)
    asyncio.run(_calibrate(given, server, model, tokens, max_tokens, at_once, api_key, admin_api_key, dry_run))


def main(arguments: list[str]) -> int:
    """Run `forkpoint calibrate …`; the exit status."""
    try:
        result = typer.main.get_command(app).main(args=arguments, prog_name="forkpoint calibrate", standalone_mode=False)
    except typer.Abort:
        return 130
    except (DataError, ServerLostError, ServerRefusesError, openai.OpenAIError, ValueError) as error:
        return _fail(_said(error))
    except Exception as error:  # click's own, for wrong options
        if not hasattr(error, "format_message"):
            raise
        return _fail(error.format_message(), 2)
    return int(result or 0)


async def _calibrate(
    given: list[Messages] | None, server: str, model: str | None, tokens: int, max_tokens: int | None, at_once: int, api_key: str,
    admin_api_key: str | None, dry_run: bool,
) -> None:  # fmt: skip
    console = Console()
    async with Asker(server, model or "", api_key=api_key, at_once=at_once) as asker:
        if not await asker.is_forkpoint():
            raise DataError(f"{server} is no Forkpoint: it lists no policies, and its entropies cannot be measured")
        listed = (await asker.get("/models"))["data"]
        asker.model = model or listed[0]["id"]
        if given is None and asker.model != EMBEDDED_MODEL:
            raise DataError(f"{asker.model} needs --prompts FILE: a threshold holds for the prompts that it was measured on")
        prompts = embedded_prompts() if given is None else given
        if len(prompts) < FEWEST_PROMPTS:
            console.print(f"Only {len(prompts)} prompts: the interval over prompts will say little.")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("tokens", total=tokens)
            written = await write(asker, prompts, tokens, at_once, max_tokens, lambda more: progress.advance(task, more))
        profile = summarise(written)
        _show(console, asker.model, profile)
        if dry_run:
            console.print("Nothing was stored (--dry-run).")
            return
        await _store(asker, profile.stored(asker.model, digest(prompts)), admin_api_key)
        console.print(f"Stored: {server} uses it from now on, and whenever it serves this model.", soft_wrap=True)


async def _store(asker: Asker, body: dict[str, Any], admin_api_key: str | None) -> None:
    client = asker.client if admin_api_key is None else asker.client.with_options(api_key=admin_api_key)
    await client.put("/calibration", body=body, cast_to=object)


def _show(console: Console, model: str, profile: Profile) -> None:
    low, high = profile.interval
    console.print(
        f"{model}: fork threshold {profile.fork_threshold:.3f} nats (95 % interval {low:.3f} to {high:.3f}), the 80th percentile "
        f"of {profile.tokens:,} tokens in {profile.answers} answers to {profile.prompts} prompts.\n"
        f"{100 * profile.share_below_0_01:.0f} % of the tokens are below 0.01 nats; an answer reasons for "
        f"{profile.mean_reasoning_tokens:.0f} tokens on average (alpha-one's thinking_tokens).",
        soft_wrap=True,
    )


def _said(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
        return str(error.body.get("message", error))
    return str(error)


def _fail(message: str, status: int = 1) -> int:
    print(f"forkpoint calibrate: {message}", file=sys.stderr)
    return status
