"""What this server has itself of recent requests: answers to clients, and to other servers."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import NamedTuple

from fastapi.responses import Response, StreamingResponse

from forkpoint_server.http.event_stream import HEADERS
from forkpoint_server.requests.listing import Entry, Filters, Page, Position, find_entry, page_after, position_of
from forkpoint_server.requests.stream import DONE, event_of
from forkpoint_server.service import Service


class OwnTrace(NamedTuple):
    """A trace as a response, and when its request started, in seconds since 1970."""

    response: Response
    created: float


async def own_trace(service: Service, request_id: str, stream: bool) -> OwnTrace | None:
    """The trace of a request, or the stream of a running one; None where it is not here. Raises ApiError (503)."""
    running = service.recent.find_running(request_id) if stream else None
    if running is not None:
        service.followers.check_capacity()
        return OwnTrace(streaming(service.followers.follow(running)), running.created)
    stored = await service.recent.settled(request_id)
    if stored is None:
        return None
    report = await service.reports.json(stored.to_dict)
    response = streaming(iter((event_of(report), DONE))) if stream else Response(report, media_type="application/json")
    return OwnTrace(response, stored.request.created)


def own_entries(service: Service) -> list[Entry]:
    """The requests that run here, then those that are stored, the newest first."""
    return [*service.recent.running(), *service.recent.stored()]


def own_position(service: Service, request_id: str) -> Position | None:
    """Where this server has a request in its list."""
    entries = own_entries(service)
    place = find_entry(entries, request_id)
    return None if place is None else position_of(entries[place])


async def own_page(service: Service, filters: Filters, limit: int, after: Position | None) -> Page:
    """This server's part of the list of all servers."""
    entries = own_entries(service)
    return await service.reports.make(lambda: page_after(entries, filters, limit, after))


def streaming(events: AsyncIterable[bytes] | Iterable[bytes]) -> StreamingResponse:
    """A response of server-sent events."""
    return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)
