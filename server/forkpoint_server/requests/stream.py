"""The trace of a running request as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from forkpoint_server.traces.detokenize import Detokenizer

from .context import RequestContext
from .recent import RecentTraces
from .serialize import (
    choice_to_dict,
    fork_points,
    heading_to_dict,
    intervention_points,
    node_state,
    node_to_dict,
    trace_to_dict,
)

POLL_SECONDS = 0.05
KEEP_ALIVE_SECONDS = 15.0
"""After so long without an event, a keep-alive (None) is sent, so that no proxy takes the stream for dead."""


class TraceStream:
    """One listener's position in a running request; `poll` returns what is new, in the shapes of the whole trace."""

    def __init__(self, context: RequestContext) -> None:
        self._context = context
        self._num_tokens: dict[int, int] = {}  # sent, by the trace's handle
        self._records: dict[
            int, tuple[int, int]
        ] = {}  # the next record of each trace, as Trace.records_since counts them
        self._nodes: dict[int, tuple[Any, ...]] = {}

    def poll(self) -> dict[str, Any] | None:
        """What is new, None if nothing is. A record may be sent again, the last one counts; tokens are sent once."""
        context = self._context
        choices, forks, interventions = [], [], []
        for trace in context.traces:
            profile, self._records[trace.handle] = trace.records_since(self._records.get(trace.handle, (0, 0)))
            num_sent = self._num_tokens.get(trace.handle, 0)
            if len(profile.position) or len(trace.tokens) > num_sent:
                choices.append(choice_to_dict(context, trace, profile, num_sent))
                forks += fork_points(context, trace, profile)
                interventions += intervention_points(context, trace, profile)
                self._num_tokens[trace.handle] = len(trace.tokens)
        nodes = self._changed_nodes()
        if not choices and not nodes:
            return None
        return {
            "id": context.engine_id,
            "object": "trace.delta",
            "choices": choices,
            "fork_points": forks,
            "intervention_points": interventions,
            "tree": {"nodes": nodes} if nodes else None,
        }

    def _changed_nodes(self) -> list[dict[str, Any]]:
        """The nodes that have started, ended or received tokens since the last poll."""
        tree, changed = self._context.tree, []
        texts = Detokenizer(self._context.model.vocabulary)
        for node in tree.nodes if tree is not None else ():
            state = node_state(node)
            if self._nodes.get(node.number) != state:
                self._nodes[node.number] = state
                changed.append(node_to_dict(node, texts))
        return changed


async def follow(recent: RecentTraces, context: RequestContext) -> AsyncIterator[dict[str, Any] | None]:
    """The heading, then what is new at each poll, and last the whole trace.

    Polling reads what is collected in any case: the request neither waits for a listener nor knows of one. Nothing is
    queued for a slow client; it gets more at once later.
    """
    yield heading_to_dict(context)
    stream, last_sent = TraceStream(context), time.monotonic()
    while recent.is_running(context):
        await asyncio.sleep(POLL_SECONDS)
        event = stream.poll()
        if event is not None or time.monotonic() - last_sent > KEEP_ALIVE_SECONDS:
            last_sent = time.monotonic()
            yield event
    yield trace_to_dict(context)
