"""Progress of a long command: a line now and then on stderr where no terminal redraws one, and what it waits for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY_SECONDS = 10.0
RETRIES_EVERY_SECONDS = 5.0
SDK = logging.getLogger("openai._base_client")
RETRYING = "Retrying request"
"""How the SDK's log line about a retry starts. Its arguments are the pause in seconds, this retry, and the most."""


class _Retries(logging.Handler):
    """Says that requests are sent again, at most every few seconds."""

    def __init__(self, say: Callable[[str], None], what: str) -> None:
        super().__init__(logging.INFO)
        self._say = say
        self._what = what
        self._said_at = -RETRIES_EVERY_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        if not record.msg.startswith(RETRYING) or now - self._said_at < RETRIES_EVERY_SECONDS:
            return
        self._said_at = now
        match record.args:
            case (_, int(retry), int(most)):
                self._say(f"waiting for {self._what} (try {retry + 1} of {most + 1})")
            case _:
                self._say(f"waiting for {self._what}")


@contextlib.contextmanager
def waiting_lines(say: Callable[[str], None], what: str) -> Iterator[None]:
    """While the block runs, say that a server (`what`) does not answer and is asked again."""
    handler, level = _Retries(say, what), SDK.level
    SDK.addHandler(handler)
    SDK.setLevel(logging.INFO)
    try:
        yield
    finally:
        SDK.setLevel(level)
        SDK.removeHandler(handler)


@contextlib.asynccontextmanager
async def progress_lines(
    name: str, describe: Callable[[], str], every_seconds: float = EVERY_SECONDS
) -> AsyncIterator[None]:
    """Print `describe()` to stderr every few seconds until the block ends, and once more at its end."""

    def say() -> None:
        print(f"forkpoint {name}: {describe()}", file=sys.stderr, flush=True)

    async def repeat() -> None:
        while True:
            await asyncio.sleep(every_seconds)
            say()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        say()


@contextlib.asynccontextmanager
async def counting(command: str, noun: str, total: int, server: str) -> AsyncIterator[Callable[[int], None]]:
    """Show on stderr how many of `total` are done: the block calls what it gets with the number of further ones. Say,
    too, that a server does not answer and is asked again."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console)
    task = progress.add_task(noun, total=total)
    async with contextlib.AsyncExitStack() as showing:
        showing.enter_context(waiting_lines(lambda line: console.print(line, markup=False), server))
        if console.is_terminal:
            showing.enter_context(progress)
        else:
            done = progress.tasks[0]
            await showing.enter_async_context(
                progress_lines(command, lambda: f"{done.completed:,.0f} of {total:,} {noun}")
            )
        yield lambda count: progress.advance(task, count)


def seconds(duration: float) -> str:
    """A duration for people: 40 s, 12 min, 3.5 h."""
    if duration < 90:
        return f"{duration:.0f} s"
    return f"{duration / 60:.0f} min" if duration < 5400 else f"{duration / 3600:.1f} h"
