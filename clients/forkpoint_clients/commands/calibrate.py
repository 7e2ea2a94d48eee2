"""What `forkpoint calibrate` does: measures answers to prompts, prints the profile, and stores it on the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import openai
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
    summarise,
)
from forkpoint_clients.cli.output import Format, print_data
from forkpoint_clients.cli.progress import counting
from forkpoint_clients.cli.running import fail
from forkpoint_clients.evaluate.asker import Asker, ServerLostError, ServerRefusesError, error_message
from forkpoint_clients.evaluate.datasets import DataError

NAME = "calibrate"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print an error that the user can act on in a line, and end with its exit status."""
    try:
        yield
    except (DataError, ServerLostError, ServerRefusesError, ValueError) as error:
        raise fail(NAME, error) from None
    except openai.OpenAIError as error:
        raise fail(NAME, error_message(error)) from None


async def measure(
    own_prompts: list[Messages] | None,
    closed_asker: Asker,
    tokens: int,
    max_tokens: int | None,
    concurrency: int,
    dry_run: bool,
    form: Format,
) -> None:
    """Measure the fork threshold, print it, and store it on the server unless this is a dry run."""
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
    """A profile in two lines; that of one prompt has no interval."""
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
