"""What `forkpoint readout fit` and `forkpoint steer fit` share: how they ask, and what they write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import openai
from rich.console import Console
from rich.table import Table

from forkpoint_clients.cli.fitting import AT_SENTENCE_ENDS
from forkpoint_clients.cli.progress import counting
from forkpoint_clients.cli.running import fail
from forkpoint_clients.evaluate.asker import Answer, Asker, ServerLostError, ServerRefusesError, error_message
from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_clients.fitting.collect import Setting, collect
from forkpoint_clients.fitting.splits import Split
from forkpoint_clients.fitting.states import AnswerStates, Served, served_model
from forkpoint_policies.hidden.artefact import SUFFIX, Artefact
from forkpoint_policies.spec import InputError, parse_policy

BINARY = "application/octet-stream"
T = TypeVar("T")

Fitting = Callable[[Asker, Served], Coroutine[Any, Any, None]]
"""What runs on a server that was reached: it asks, fits, prints and writes."""


@dataclass(frozen=True)
class Destination:
    """Where what is fitted goes: a file, and with `store` the server."""

    name: str
    out: Path | None
    store: bool

    @property
    def file(self) -> Path:
        return self.out or Path(f"{self.name}{SUFFIX}")


def condition(text: str, option: str) -> Mapping[str, Any]:
    """A condition on positions, from the JSON of an option. Raises InputError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(option, f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(option, f"must be an object such as {AT_SENTENCE_ENDS}")
    try:
        parse_policy({"rules": [{"when": found, "do": {"observe": {}}}]})
    except InputError as error:
        raise InputError(error.field.replace("policy.rules[0].when", option), error.message) from None
    return found


@contextmanager
def plain_errors(command: str) -> Iterator[None]:
    """Print an error that the user can act on in a line, and end with its exit status."""
    try:
        yield
    except (InputError, DataError, ServerLostError, ServerRefusesError, ValueError) as error:
        raise fail(command, error) from None
    except openai.OpenAIError as error:
        raise fail(command, error_message(error)) from None
    except OSError as error:
        raise fail(command, f"{error.filename} cannot be written: {error.strerror}") from None


def run(closed_asker: Asker, fitting: Fitting) -> None:
    """Reach the server, and run what fits to it. Raises what the Asker does, and DataError for a stock server."""

    async def reach() -> None:
        async with closed_asker as asker:
            await asker.reach()
            if not await asker.is_forkpoint():
                raise DataError(f"{asker.url} is not a Forkpoint server, and only those read hidden states")
            asker.model = asker.model or (await asker.get("/models"))["data"][0]["id"]
            await fitting(asker, await served_model(asker))

    asyncio.run(reach())


async def collect_showing(
    command: str, asker: Asker, setting: Setting, label: Callable[[int, Answer, AnswerStates], Awaitable[T]]
) -> list[T]:
    """Ask everything, and show how far it is."""
    async with counting(command, "answers", setting.num_answers, asker.url) as advance:
        return await collect(asker, setting, label, lambda: advance(1))


async def write(asker: Asker, made: Artefact, destination: Destination) -> None:
    """Write what was fitted to its file and, if asked for, to the server."""
    console, name = Console(stderr=True), destination.name
    await asyncio.to_thread(destination.file.write_bytes, made.raw)
    console.print(f"Wrote {destination.file}.", highlight=False, soft_wrap=True)
    if destination.store:
        await asker.client.put(
            f"/vectors/{name}", content=made.raw, cast_to=object, options={"headers": {"Content-Type": BINARY}}
        )
        console.print(f"Stored: policies on {asker.url} can name {name!r}.", highlight=False, soft_wrap=True)


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def split_table(label: str, parts: Mapping[str, Split]) -> Table:
    """The parts of the questions; `label` is what the share is of."""
    table = Table("questions", "number", "states", label)
    for name, split in parts.items():
        table.add_row(name, str(split.questions), f"{split.states:,}", f"{split.share:.0%}")
    return table


def with_interval(area: float, interval: tuple[float, float]) -> str:
    """An area and its interval."""
    return f"{area:.3f} (95% interval {interval[0]:.3f} to {interval[1]:.3f})"
