"""The requests that run, and the traces of recent ones in a bounded memory: the oldest are evicted first."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from .context import RequestContext
from .figures import Figures, figures_of
from .finished import FinishedRequest
from .limits import MAX_TRACE_TOKENS
from .serialize import trace_to_dict

TOKEN_BYTES = 100
"""The memory for traces is stated in tokens: one without alternatives takes about as much, an alternative too."""

ENDING_SECONDS = 2.0
"""How long to wait for a request whose response is being sent: its client may have all of it before it is stored."""

_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class StoredTrace:
    """A finished request. `to_dict` makes what `GET /v1/forks/{id}` returns."""

    ids: tuple[str, ...]
    num_tokens: int
    request: FinishedRequest
    to_dict: Callable[[], dict[str, Any]]

    @cached_property
    def figures(self) -> Figures:
        """Its figures, computed once: they take a pass over its records."""
        return figures_of(self.request)


class RecentTraces:
    """Requests by the ids of their response, of the engine and of their client (X-Request-Id).

    Clients may use an id twice: it then names the last request. With `max_tokens` 0 none are stored, and running ones
    cannot be found.
    """

    def __init__(self, max_tokens: int = MAX_TRACE_TOKENS) -> None:
        self._max_tokens = max_tokens
        self._stored: OrderedDict[int, StoredTrace] = OrderedDict()  # by a number of ours, the oldest first
        self._by_id: dict[str, int] = {}
        self._numbers = itertools.count()
        self._num_tokens = 0
        self._running: list[RequestContext] = []
        self._stored_events: dict[int, asyncio.Event] = {}  # of running requests that are waited for, by id()

    @contextmanager
    def track(self, context: RequestContext) -> Iterator[None]:
        """List a request as running, and store its traces when it has ended."""
        self._running.append(context)
        try:
            yield
        finally:
            self._running = [running for running in self._running if running is not context]
            if context.response_id is not None:  # its client was there to the end
                finished = context.finished()
                self.store(finished, lambda: trace_to_dict(finished))
            if (waited_for := self._stored_events.pop(id(context), None)) is not None:
                waited_for.set()

    def find_running(self, request_id: str) -> RequestContext | None:
        """The last request with this id that runs in the engine."""
        if not self._max_tokens:
            return None
        key = canonical(request_id)
        for context in reversed(self._running):
            ids = [canonical(one) for one in (context.engine_id, context.client_id) if one]
            if key in ids and not context.inactive:
                return context
        return None

    async def settled(self, request_id: str) -> StoredTrace | None:
        """As `get`; waits up to ENDING_SECONDS for one with this id whose response is just being sent."""
        key = canonical(request_id)
        ending = [context for context in self._running if key in _ids_at_end(context)]
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDING_SECONDS):
                for context in ending:
                    await self._stored_events.setdefault(id(context), asyncio.Event()).wait()
        return self.get(request_id)

    def running(self) -> list[RequestContext]:
        """The requests that run in the engine under an id, the newest first."""
        if not self._max_tokens:
            return []
        return [one for one in reversed(self._running) if one.engine_id is not None and not one.inactive]

    def stored(self) -> list[StoredTrace]:
        """The stored requests, the newest first."""
        return list(reversed(self._stored.values()))

    def is_running(self, context: RequestContext) -> bool:
        return any(running is context for running in self._running)

    def store(self, finished: FinishedRequest, to_dict: Callable[[], dict[str, Any]], num_more_bytes: int = 0) -> None:
        """Store a finished request; `to_dict` makes the answer to `GET /v1/forks/{id}`.

        `num_more_bytes`: the memory of what `to_dict` holds besides the request.
        """
        number = next(self._numbers)
        num_tokens = -(-(finished.num_bytes + num_more_bytes) // TOKEN_BYTES)
        stored = StoredTrace(tuple(dict.fromkeys(map(canonical, finished.ids))), num_tokens, finished, to_dict)
        for key in stored.ids:
            self._take_over(key, number)
        self._stored[number] = stored
        self._num_tokens += num_tokens
        while self._num_tokens > self._max_tokens and self._stored:
            self._evict(next(iter(self._stored)))

    def get(self, request_id: str) -> StoredTrace | None:
        """The last stored request with this id."""
        number = self._by_id.get(canonical(request_id))
        return None if number is None else self._stored[number]

    def _take_over(self, key: str, number: int) -> None:
        """Let an id name this request; the one that it named is evicted if no other id is left to find it by."""
        before = self._by_id.get(key)
        self._by_id[key] = number
        if before is not None and all(self._by_id.get(one) != before for one in self._stored[before].ids):
            self._evict(before)

    def _evict(self, number: int) -> None:
        evicted = self._stored.pop(number)
        self._num_tokens -= evicted.num_tokens
        for key in evicted.ids:
            if self._by_id.get(key) == number:
                del self._by_id[key]


def _ids_at_end(context: RequestContext) -> tuple[str, ...]:
    """The ids of a running request whose response is being sent; none before."""
    if context.response_id is None:
        return ()
    return tuple(canonical(one) for one in (context.response_id, context.engine_id, context.client_id) if one)


def canonical(request_id: str) -> str:
    """An id as gateways pass it on: percent-decoded, with UUIDs in lower case."""
    return _UUID.sub(lambda found: found[0].lower(), unquote(request_id))
