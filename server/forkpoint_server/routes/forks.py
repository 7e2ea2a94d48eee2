"""`/v1/forks`: where a recent request forked, or a text that is given."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, StreamingResponse

from forkpoint_server.errors import error_object, not_found
from forkpoint_server.fork_analysis.job import Work, prepare
from forkpoint_server.fork_analysis.tokenize import RenderingError
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.requests.stream import follow
from forkpoint_server.service import Service
from forkpoint_server.vllm_seam import with_cancellation

TELL_EVERY_SECONDS = 0.25
DONE = "data: [DONE]\n\n"
ALIVE = ": running\n\n"


def forks_router(service: Service) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])

    @router.get("/v1/forks/{request_id}")
    async def show_trace(request_id: str, stream: bool = False) -> Any:
        """The trace of a recent request by its response's id: tokens, entropies, forks, interventions.

        Requests with a policy or with `forks` are kept, the oldest going first; alternatives only where `forks` was asked for.
        With `stream=true` a request that runs is told of as it goes on, as server-sent events, of which the last is the trace.
        """
        running = service.recent.find_running(request_id) if stream else None
        if running is not None:
            return StreamingResponse(_followed(service.recent, running), media_type="text/event-stream")
        kept = service.recent.get(request_id)
        if kept is not None and stream:
            return StreamingResponse(iter((_event(kept.to_dict()), DONE)), media_type="text/event-stream")
        if kept is None:
            message = f"there is no trace of {request_id!r}: it had neither a policy nor `forks`, or is too long ago"
            raise not_found(message, "request_id")
        return kept.to_dict()

    @router.post("/v1/forks")
    @with_cancellation  # type: ignore[untyped-decorator]
    async def measure_text(body: Annotated[Any, Body()], raw_request: Request) -> Any:
        """The same for a text that is given: `messages` of which the last is the assistant's, or `prompt` and `completion`.

        With `verify: N`, which of its forks matter: N continuations from each of the likeliest alternatives.
        """
        try:
            work = await prepare(service, body, raw_request)
        except RenderingError as error:
            return JSONResponse(error.response.model_dump(), error.response.error.code)
        if work.asked.stream:
            return StreamingResponse(_events(work), media_type="text/event-stream")
        try:
            return (await work.run()).report()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    return router


async def _followed(traces: RecentTraces, running: RequestContext) -> AsyncIterator[str]:
    async for told in follow(traces, running):
        yield ALIVE if told is None else _event(told)
    yield DONE


async def _events(work: Work) -> AsyncIterator[str]:
    """How far the work is, every now and then, and last what was found; when the client leaves, the work ends."""
    told: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    work.tell = told.put_nowait
    task = asyncio.create_task(work.run())
    task.add_done_callback(lambda _: told.put_nowait(None))
    try:
        last: dict[str, Any] = {}
        spoken = 0.0
        while (progress := await told.get()) is not None:
            changes = progress["phase"] != last.get("phase") or progress["done"] == progress["total"]
            if changes or time.monotonic() - spoken > TELL_EVERY_SECONDS:
                spoken = time.monotonic()
                yield _event(progress)
            last = progress
        yield _event(_found(task))
        yield DONE
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _found(task: asyncio.Task[Any]) -> dict[str, Any]:
    """What the work came to, or its error in OpenAI's shape."""
    error = task.exception()
    if error is None:
        found: dict[str, Any] = task.result().report()
        return found
    answer: dict[str, Any] = error_object(_first(error))
    return answer


def _first(error: BaseException) -> BaseException:
    """Of the errors of tasks that ran side by side, the first: the others were cancelled for it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
