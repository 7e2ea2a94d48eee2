"""Follows a request while it runs: its tokens with their entropies, its forks and branches, as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from forkpoint_server.requests.context import Intervention
from forkpoint_server.requests.recent import Traces
from forkpoint_server.requests.serialize import News, heading

LOOK_EVERY_SECONDS = 0.05
QUIET_SECONDS = 15.0
"""After so long without an event a sign of life is sent (as None): what stands between must not take the stream for dead."""


async def follow(traces: Traces, intervention: Intervention) -> AsyncIterator[dict[str, Any] | None]:
    """What is known at the beginning, then what is new, and last the whole trace.

    The listener looks at what was collected anyway: nothing of the request waits for it or knows of it. What a slow client does not
    take is not queued; it gets more at once later.
    """
    yield heading(intervention)
    news, spoken = News(intervention), time.monotonic()
    while traces.runs(intervention):
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        told = news.look()
        if told is not None or time.monotonic() - spoken > QUIET_SECONDS:
            spoken = time.monotonic()
            yield told
    yield intervention.report()
