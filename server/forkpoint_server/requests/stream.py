"""The trace of a running request as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from forkpoint_server.traces.detokenize import Texts

from .context import RequestContext
from .recent import Traces
from .serialize import changed_tokens, choice_to_dict, forks_to_dicts, heading, state_of


class TraceStream:
    """What a listener was told of a running request; `look` tells what is new, with the shapes of the report."""

    def __init__(self, intervention: RequestContext) -> None:
        self._intervention = intervention
        self._tokens: dict[int, int] = {}
        self._records: dict[int, tuple[int, int]] = {}
        self._nodes: dict[int, tuple[Any, ...]] = {}

    def look(self) -> dict[str, Any] | None:
        """None where nothing is new. A record may come again, and the last one counts; tokens come once."""
        it = self._intervention
        choices, forks, changed = [], [], []
        for trace in it.traces:
            profile, self._records[trace.handle] = trace.news(self._records.get(trace.handle, (0, 0)))
            told = self._tokens.get(trace.handle, 0)
            if len(profile.position) or len(trace.tokens) > told:
                choices.append(choice_to_dict(it, trace, profile, told))
                forks += forks_to_dicts(it, trace, profile)
                changed += changed_tokens(it, trace, profile)
                self._tokens[trace.handle] = len(trace.tokens)
        nodes = self._new_nodes()
        if not choices and not nodes:
            return None
        tree = {"nodes": nodes} if nodes else None
        return {
            "id": it.name,
            "object": "trace.delta",
            "choices": choices,
            "fork_points": forks,
            "intervention_points": changed,
            "tree": tree,
        }

    def _new_nodes(self) -> list[dict[str, Any]]:
        """Those that have begun, ended or grown since the last look."""
        tree, found = self._intervention.tree, []
        one = Texts(self._intervention.target.vocabulary).one
        for node in tree.nodes if tree is not None else ():
            state = state_of(node)
            if self._nodes.get(node.number) != state:
                self._nodes[node.number] = state
                found.append(node.told(one))
        return found


LOOK_EVERY_SECONDS = 0.05
QUIET_SECONDS = 15.0
"""After so long without an event a sign of life is sent (as None): what stands between must not take the stream for dead."""


async def follow(traces: Traces, intervention: RequestContext) -> AsyncIterator[dict[str, Any] | None]:
    """What is known at the beginning, then what is new, and last the whole trace.

    The listener looks at what was collected anyway: nothing of the request waits for it or knows of it. What a slow client does not
    take is not queued; it gets more at once later.
    """
    yield heading(intervention)
    news, spoken = TraceStream(intervention), time.monotonic()
    while traces.runs(intervention):
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        told = news.look()
        if told is not None or time.monotonic() - spoken > QUIET_SECONDS:
            spoken = time.monotonic()
            yield told
    yield intervention.report()
