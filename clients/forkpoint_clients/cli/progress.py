"""Progress of a long command where no terminal can redraw a line: a line now and then on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

EVERY_SECONDS = 10.0


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


def seconds(duration: float) -> str:
    """A duration for people: 40 s, 12 min, 3.5 h."""
    if duration < 90:
        return f"{duration:.0f} s"
    return f"{duration / 60:.0f} min" if duration < 5400 else f"{duration / 3600:.1f} h"
