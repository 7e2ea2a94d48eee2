"""The server's end: requests that come after the signal are refused, and those that run may end before the engine does.

vLLM alone stops the engine at once and still accepts requests: these get an empty stream, or a 500. And an engine that
stops takes no branch, probe or sample of a request that it has.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, MutableSequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol, cast

from .vllm_seam import EngineClient, GracefulHTTPError, RequestOutput

STOPPING = "the server is stopping; send the request to another server, or again when this one has started again"
POLL_SECONDS = 0.05
LEAST_SECONDS = 5.0
"""What the engine's processes have to end, where the requests have used up the time."""


class Flag(Protocol):
    """An event of threads, or of processes."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...


@dataclass(frozen=True)
class Drain:
    """The flag from which on requests are refused, and how many run: a number for each API server."""

    stopping: Flag
    running: MutableSequence[int]
    number: int = 0  # this process's place

    def of_server(self, number: int) -> Drain:
        return replace(self, number=number)

    def is_stopping(self) -> bool:
        return self.stopping.is_set()

    @contextmanager
    def counted(self) -> Iterator[bool]:
        """Count a request for as long as the block runs; false for one that comes too late.

        It is counted before the flag is read: `finish` sets the flag before it reads the count.
        """
        self.running[self.number] += 1
        try:
            yield not self.is_stopping()
        finally:
            self.running[self.number] -= 1

    def finish(self, seconds: float) -> float:
        """Refuse what comes from now on; return when all that runs has ended, or after so many seconds. Returns those
        that are left."""
        self.stopping.set()
        until = time.monotonic() + seconds
        while any(self.running) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
        return max(until - time.monotonic(), 0.0)


def drain_of_one() -> Drain:
    """For a server of one process."""
    return Drain(threading.Event(), [0])


def drain_of_several(count: int) -> Drain:
    """For several API servers, which vLLM spawns."""
    context = multiprocessing.get_context("spawn")
    return Drain(context.Event(), cast(MutableSequence[int], context.RawArray("i", count)))


def drain_first(drain: Drain, engine: EngineClient) -> None:
    """Let the requests end before the engine's client is shut down, which vLLM's launcher does first on a signal.

    The launcher calls it in a thread of its own, with the seconds of `--shutdown-timeout`. Where the event loop's
    thread calls it, something has failed, and no request could end meanwhile.
    """
    shutdown = engine.shutdown

    def drain_and_shut_down(timeout: float | None = None) -> None:
        waits = bool(timeout) and threading.current_thread() is not threading.main_thread()
        left = drain.finish(timeout if timeout and waits else 0.0)
        shutdown(timeout=max(left, LEAST_SECONDS) if waits else timeout)

    engine.shutdown = drain_and_shut_down  # type: ignore[method-assign]


async def raise_if_refused(
    outputs: AsyncGenerator[RequestOutput, None], is_stopping: Callable[[], bool]
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on a request's outputs. Raises GracefulHTTPError (503) for one that reaches an engine that stops, which
    aborts it without a token."""
    has_tokens = False
    async with aclosing(outputs):
        async for output in outputs:
            has_tokens = has_tokens or any(choice.token_ids for choice in output.outputs)
            if not has_tokens and is_stopping() and any(one.finish_reason == "abort" for one in output.outputs):
                raise GracefulHTTPError(STOPPING, HTTPStatus.SERVICE_UNAVAILABLE)
            yield output
