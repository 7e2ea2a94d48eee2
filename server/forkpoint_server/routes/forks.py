"""`/v1/forks`: the recent requests, where one forked, or where a text that the client sends does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from forkpoint_server.errors import error_object, not_found
from forkpoint_server.fork_analysis.job import Job, prepare
from forkpoint_server.fork_analysis.request import ForksRequest
from forkpoint_server.fork_analysis.tokenize import RenderingError
from forkpoint_server.http.event_stream import HEADERS
from forkpoint_server.requests.listing import Entry, Filters, list_requests
from forkpoint_server.requests.reports import ReportThread
from forkpoint_server.requests.stream import DONE, event_of
from forkpoint_server.service import Service
from forkpoint_server.vllm_seam import with_cancellation

from .bodies import describe_body, json_body

PROGRESS_SECONDS = 0.25
MAX_ROWS = 200


def forks_router(service: Service) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])

    @router.get("/v1/forks")
    async def list_traces(
        policy: str | None = None,
        experiment: str | None = None,
        arm: str | None = None,
        finish_reason: str | None = None,
        running: bool | None = None,
        text: str | None = None,
        after: str | None = None,
        limit: int = Query(default=50, ge=1, le=MAX_ROWS),
    ) -> Response:
        """The recent requests whose traces are stored, and those that run; running ones first, then the newest.

        Each row has the request's id, time, model, policy, experiment and arm, the start of its prompt, its tokens,
        forks and their share, the policy's effect, and how it ended. Filters: `policy` (`none`: without one),
        `experiment`, `arm`, `finish_reason`, `running`, and `text` in the prompt's start. `after=ID` continues a list
        after the row with that id.
        """
        filters = Filters(policy, experiment, arm, finish_reason, running, text)
        entries: list[Entry] = [*service.recent.running(), *service.recent.stored()]
        rows = await service.reports.json(lambda: list_requests(entries, filters, limit, after))
        return Response(rows, media_type="application/json")

    @router.get("/v1/forks/{request_id:path}")
    async def show_trace(request_id: str, stream: bool = False) -> Any:
        """The trace of a recent request: tokens, entropies, forks, interventions.

        Its id is the response's, the engine's, or the one that its client sent (`X-Request-Id`); of several requests
        with one id, the last is found. Requests with a policy or with `forks` are stored until memory is needed,
        alternatives only with `forks`.
        With `stream=true`, a running request is reported as server-sent events, the last of which is the trace.
        """
        running = service.recent.find_running(request_id) if stream else None
        if running is not None:
            service.followers.check_capacity()
            return _streaming(service.followers.follow(running))
        stored = service.recent.get(request_id)
        if stored is None:
            message = f"there is no trace of {request_id!r}: it had neither a policy nor `forks`, or is too long ago"
            raise not_found(message, "request_id")
        report = await service.reports.json(stored.to_dict)
        if stream:
            return _streaming(iter((event_of(report), DONE)))
        return Response(report, media_type="application/json")

    @router.post("/v1/forks", openapi_extra=describe_body("post /v1/forks", ForksRequest))
    @with_cancellation  # type: ignore[untyped-decorator]
    async def measure_text(body: Annotated[Any, Depends(json_body)], raw_request: Request) -> Any:
        """The same for a text: `messages`, the last of which is the assistant's, or `prompt` and `completion`.

        With `verify: N`, also which of its forks matter, by N continuations from each of the likeliest alternatives.
        """
        try:
            job = await prepare(service, body, raw_request)
        except RenderingError as error:
            return JSONResponse(error.response.model_dump(), error.response.error.code)
        if job.request.stream:
            return _streaming(_events(job, service.reports))
        try:
            return Response(await _report(job, service.reports), media_type="application/json")
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    return router


def _streaming(events: AsyncIterable[bytes] | Iterable[bytes]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)


async def _report(job: Job, reports: ReportThread) -> bytes:
    """Run the job; the JSON of its result."""
    analysis = await job.run()
    return await reports.json(analysis.to_dict)


async def _events(job: Job, reports: ReportThread) -> AsyncIterator[bytes]:
    """Progress at most every PROGRESS_SECONDS, then the result. When the client disconnects, the job is cancelled."""
    updates: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    job.on_progress = updates.put_nowait
    task = asyncio.create_task(_report(job, reports))
    task.add_done_callback(lambda _: updates.put_nowait(None))
    try:
        last: dict[str, Any] = {}
        sent_at = 0.0
        while (progress := await updates.get()) is not None:
            changes = progress["phase"] != last.get("phase") or progress["done"] == progress["total"]
            if changes or time.monotonic() - sent_at > PROGRESS_SECONDS:
                sent_at = time.monotonic()
                yield event_of(msgspec.json.encode(progress))
            last = progress
        yield event_of(_result(task))
        yield DONE
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _result(task: asyncio.Task[bytes]) -> bytes:
    """The job's result, or its error in OpenAI's shape."""
    error = task.exception()
    return task.result() if error is None else msgspec.json.encode(error_object(_first(error)))


def _first(error: BaseException) -> BaseException:
    """The first error of concurrent tasks, for which the others were cancelled."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
