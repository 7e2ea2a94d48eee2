"""The server's end: from the signal on, what would reach the engine is refused, so that a client tries another server.

vLLM goes on to accept requests while its engine finishes those that it has. It answers them with an empty stream, or
with a 500.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Protocol

from .vllm_seam import EngineClient, GracefulHTTPError, RequestOutput

STOPPING = "the server is stopping; send the request to another server, or again when this one has started again"


class Flag(Protocol):
    """An event of threads, or of processes."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...


def set_at_shutdown(stopping: Flag, engine: EngineClient) -> None:
    """Set the flag when the engine's client is shut down, which vLLM's launcher does first on a signal."""
    shutdown = engine.shutdown

    def set_and_shut_down(timeout: float | None = None) -> None:
        stopping.set()
        shutdown(timeout=timeout)

    engine.shutdown = set_and_shut_down  # type: ignore[method-assign]


async def raise_if_refused(
    outputs: AsyncGenerator[RequestOutput, None], is_stopping: Callable[[], bool]
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on a request's outputs. Raises GracefulHTTPError (503) for one that reached the engine after the signal: it
    is aborted without a token."""
    has_tokens = False
    async with aclosing(outputs):
        async for output in outputs:
            has_tokens = has_tokens or any(choice.token_ids for choice in output.outputs)
            if not has_tokens and is_stopping() and any(one.finish_reason == "abort" for one in output.outputs):
                raise GracefulHTTPError(STOPPING, HTTPStatus.SERVICE_UNAVAILABLE)
            yield output
