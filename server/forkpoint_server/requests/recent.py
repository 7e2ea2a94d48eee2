"""The requests that run, and the traces of recent ones in a bounded memory: the oldest are evicted first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from forkpoint_server.traces.trace import Trace

from .context import RequestContext
from .serialize import trace_to_dict

MAX_TOKENS = 2_000_000
"""Of all stored traces, each stored alternative counting as one token: some hundred bytes."""


@dataclass(frozen=True)
class StoredTrace:
    """A finished request. `to_dict` makes what `GET /v1/forks/{request_id}` returns."""

    num_tokens: int
    to_dict: Callable[[], dict[str, Any]]


class RecentTraces:
    """Requests by the id of their response. With `max_tokens` 0 none are stored, and running ones cannot be found."""

    def __init__(self, max_tokens: int = MAX_TOKENS) -> None:
        self._stored: OrderedDict[str, StoredTrace] = OrderedDict()
        self._max_tokens = max_tokens
        self._num_tokens = 0
        self._running: list[RequestContext] = []

    @contextmanager
    def track(self, context: RequestContext) -> Iterator[None]:
        """List a request as running, and store its traces when it has ended."""
        self._running.append(context)
        try:
            yield
        finally:
            self._running = [running for running in self._running if running is not context]
            if context.response_id is not None:  # its client was there to the end
                self.store(context.response_id, context.traces, lambda: trace_to_dict(context))

    def find_running(self, response_id: str) -> RequestContext | None:
        """The request of this id that runs in the engine; of several, the last."""
        if not self._max_tokens:
            return None
        found = (context for context in reversed(self._running) if context.engine_id == response_id)
        return next((context for context in found if not context.inactive), None)

    def is_running(self, context: RequestContext) -> bool:
        return any(running is context for running in self._running)

    def store(self, response_id: str, traces: Sequence[Trace], to_dict: Callable[[], dict[str, Any]]) -> None:
        """Store a finished request's traces; `to_dict` makes the answer to `GET /v1/forks/{response_id}`.

        Clients may choose ids (X-Request-Id): of several requests with the same one, the last is stored.
        """
        if response_id in self._stored:
            self._num_tokens -= self._stored.pop(response_id).num_tokens
        prompts = {id(trace.prompt): len(trace.prompt) for trace in traces}
        num_tokens = 1 + sum(trace.size for trace in traces) + sum(prompts.values())
        self._stored[response_id] = StoredTrace(num_tokens, to_dict)
        self._num_tokens += num_tokens
        while self._num_tokens > self._max_tokens and self._stored:
            self._num_tokens -= self._stored.popitem(last=False)[1].num_tokens

    def get(self, response_id: str) -> StoredTrace | None:
        return self._stored.get(response_id)
