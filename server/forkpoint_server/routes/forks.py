"""`/v1/forks`: the recent requests, where one forked, or where a text that the client sends does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from forkpoint_server.errors import error_object, not_found
from forkpoint_server.fork_analysis.job import Job, prepare
from forkpoint_server.fork_analysis.request import ForksRequest
from forkpoint_server.fork_analysis.tokenize import RenderingError
from forkpoint_server.http.health import WARNING
from forkpoint_server.replicas.forwarding import Forwarding
from forkpoint_server.requests.listing import Filters, list_requests, merge_pages, unknown_after
from forkpoint_server.requests.reports import ReportThread
from forkpoint_server.requests.stream import DONE, event_of
from forkpoint_server.service import Service
from forkpoint_server.vllm_seam import with_cancellation

from .bodies import describe_body, json_body
from .own_traces import own_entries, own_page, own_position, own_trace, streaming

PROGRESS_SECONDS = 0.25
MAX_ROWS = 200


def forks_router(service: Service) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])

    @router.get("/v1/forks")
    async def list_traces(
        filters: Annotated[Filters, Depends()],
        after: str | None = None,
        limit: int = Query(default=50, ge=1, le=MAX_ROWS),
    ) -> Response:
        """The recent requests whose traces are stored, and those that run; running ones first, then the newest.

        Each row has the request's id, time, model, policy, experiment and arm, the start of its prompt, its tokens,
        forks and their share, the policy's effect, and how it ended. Filters: `policy` (`none`: without one),
        `experiment`, `arm`, `finish_reason`, `running`, and `text` in the prompt's start. `after=ID` continues a list
        after the row with that id.
        """
        # the pages after the first are of the servers that it was of
        if service.forwarding is not None and await service.forwarding.has_others(look_again=after is None):
            return await _rows_of_all(service, service.forwarding, filters, limit, after)
        entries = own_entries(service)
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
        found = await own_trace(service, request_id, stream)
        if found is not None:
            return found.response
        elsewhere = None if service.forwarding is None else await service.forwarding.trace(request_id, stream)
        if elsewhere is not None:
            return elsewhere
        message = f"there is no trace of {request_id!r}: it had neither a policy nor `forks`, or is too long ago"
        raise not_found(message, "request_id")

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
            return streaming(_events(job, service.reports))
        try:
            return Response(await _report(job, service.reports), media_type="application/json")
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    return router


async def _rows_of_all(
    service: Service, forwarding: Forwarding, filters: Filters, limit: int, after: str | None
) -> Response:
    """A page of the requests of all servers. A header says which did not answer."""
    start = None
    if after is not None:
        start = own_position(service, after) or await forwarding.position(after)
        if start is None:
            raise unknown_after()
    own, (others, unanswered) = await asyncio.gather(
        own_page(service, filters, limit, start), forwarding.rows(filters, limit, start)
    )
    rows = await service.reports.json(lambda: merge_pages([own, *others], limit))
    response = Response(rows, media_type="application/json")
    for error in unanswered:
        response.headers.append(WARNING, f"{error}: its requests are not listed")
    return response


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
