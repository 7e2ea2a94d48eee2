"""The trace of a running request as server-sent events, shared by all that follow it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec

from forkpoint_server.errors import ApiError
from forkpoint_server.traces.detokenize import Detokenizer

from .context import RequestContext
from .recent import RecentTraces
from .reports import ReportThread
from .serialize import (
    choice_to_dict,
    fork_points,
    heading_to_dict,
    intervention_points,
    node_state,
    node_to_dict,
    number_prompts,
    trace_to_dict,
)

POLL_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 15.0
"""After so long without an event, a comment is sent, so that no proxy takes the stream for dead."""
MAX_FOLLOWERS = 64
"""Of all running requests; one more is refused."""
RETRY_SECONDS = 5
MAX_EVENT_TOKENS = 2_000
"""A follower that starts late gets what there is in several events: each takes the event loop a few milliseconds."""

ALIVE = b": running\n\n"
DONE = b"data: [DONE]\n\n"


def event_of(json: bytes) -> bytes:
    """A server-sent event."""
    return b"data: " + json + b"\n\n"


@dataclass(frozen=True, eq=False)
class Cursor:
    """How far a running request has been sent."""

    num_tokens: Mapping[int, int] = field(default_factory=dict)  # by the trace's handle
    records: Mapping[int, tuple[int, int]] = field(default_factory=dict)  # as Trace.records_since counts them
    nodes: Mapping[int, tuple[Any, ...]] = field(default_factory=dict)  # what was sent of each, as node_state


START = Cursor()


@dataclass(frozen=True)
class Delta:
    """What is new after a cursor, None if nothing is; and the next cursor, whether or not all has been sent there."""

    event: dict[str, Any] | None
    cursor: Cursor
    is_current: bool


def delta_after(context: RequestContext, cursor: Cursor, max_tokens: int = MAX_EVENT_TOKENS) -> Delta:
    """What is new after a cursor, at most so many tokens, in the shapes of the whole trace.

    A record may be sent again, the last one counts; tokens are sent once.
    """
    num_tokens, records = dict(cursor.num_tokens), dict(cursor.records)
    choices, forks, interventions = [], [], []
    prompts, left, is_current = number_prompts(context.traces), max_tokens, True
    for trace in context.traces:
        num_sent, read = num_tokens.get(trace.handle, 0), records.get(trace.handle, (0, 0))
        until = min(len(trace.tokens), num_sent + left)
        is_current &= until == len(trace.tokens)
        if until == num_sent and not trace.has_records_since(read):
            continue
        profile, records[trace.handle] = trace.records_since(read, until)
        if len(profile.position) or until > num_sent:
            choices.append(choice_to_dict(context, trace, profile, prompts, num_sent, until))
            forks += fork_points(context, trace, profile)
            interventions += intervention_points(context, trace, profile)
            num_tokens[trace.handle] = until
            left -= until - num_sent
    nodes, changed = _changed_nodes(context, cursor.nodes)
    if not choices and not changed:
        return Delta(None, cursor, is_current)
    event = {
        "id": context.engine_id,
        "object": "trace.delta",
        "choices": choices,
        "fork_points": forks,
        "intervention_points": interventions,
        "tree": {"nodes": changed} if changed else None,
    }
    return Delta(event, Cursor(num_tokens, records, nodes), is_current)


def _changed_nodes(
    context: RequestContext, sent: Mapping[int, tuple[Any, ...]]
) -> tuple[Mapping[int, tuple[Any, ...]], list[dict[str, Any]]]:
    """The states of the tree's nodes, and those that have started, ended or received tokens since `sent`."""
    if context.tree is None:
        return sent, []
    texts = Detokenizer(context.vocabulary)
    states = {node.number: node_state(node) for node in context.tree.nodes}
    changed = [node for node in context.tree.nodes if sent.get(node.number) != states[node.number]]
    return states, [node_to_dict(node, texts) for node in changed]


class LiveTrace:
    """A running request that is followed. Followers that are as far as each other share what is serialised."""

    def __init__(self, context: RequestContext, reports: ReportThread) -> None:
        self.context = context
        self.num_followers = 0
        self.num_serialised = 0
        self._reports = reports
        self._before = self._after = START  # the last shared event leads from one to the other
        self._event = b""
        self._is_current = False
        self._whole: asyncio.Task[bytes] | None = None

    def next(self, cursor: Cursor) -> tuple[bytes | None, Cursor]:
        """The next event after a cursor, None if there is none, and its end."""
        if cursor is not self._before or cursor is self._after:
            self._advance()
        if cursor is self._after:
            return None, cursor
        if cursor is self._before:
            return self._event, self._after
        delta = delta_after(self.context, cursor)  # a follower that is new or slow catches up alone
        reached = self._after if delta.is_current and self._is_current else delta.cursor
        return None if delta.event is None else self._serialised(delta.event), reached

    async def whole(self) -> bytes:
        """The whole trace, once the request has ended."""
        if self._whole is None:
            self._whole = asyncio.create_task(self._reports.json(lambda: trace_to_dict(self.context)))
        return event_of(await asyncio.shield(self._whole))

    def _advance(self) -> None:
        delta = delta_after(self.context, self._after)
        self._is_current = delta.is_current
        if delta.event is not None:
            self._event = self._serialised(delta.event)
            self._before, self._after = self._after, delta.cursor

    def _serialised(self, event: dict[str, Any]) -> bytes:
        self.num_serialised += 1
        return event_of(msgspec.json.encode(event))


class Followers:
    """Those that follow running requests."""

    def __init__(self, recent: RecentTraces, reports: ReportThread, max_followers: int = MAX_FOLLOWERS) -> None:
        self._recent = recent
        self._reports = reports
        self._max_followers = max_followers
        self._live: dict[int, LiveTrace] = {}  # by the id of the context

    def check_capacity(self) -> None:
        """Raise ApiError (503) if no request can have one more follower."""
        if sum(live.num_followers for live in self._live.values()) >= self._max_followers:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"stream: {self._max_followers} streams of traces run already; read this trace after its end",
                "stream",
                retry_seconds=RETRY_SECONDS,
            )

    async def follow(self, context: RequestContext) -> AsyncIterator[bytes]:
        """The heading, then what is new at each poll, and last the whole trace.

        Polling reads what is collected in any case: the request neither waits for a follower nor knows of one. Nothing
        is queued for a slow client; it gets more at once later.
        """
        live = self._live.setdefault(id(context), LiveTrace(context, self._reports))
        live.num_followers += 1
        try:
            yield event_of(msgspec.json.encode(heading_to_dict(context)))
            cursor, last_sent, event = START, time.monotonic(), None
            while self._recent.is_running(context):
                await asyncio.sleep(POLL_SECONDS if event is None else 0)
                event, cursor = live.next(cursor)
                if event is not None or time.monotonic() - last_sent > KEEP_ALIVE_SECONDS:
                    last_sent = time.monotonic()
                    yield ALIVE if event is None else event
            yield await live.whole()
            yield DONE
        finally:
            live.num_followers -= 1
            if not live.num_followers:
                self._live.pop(id(context), None)
