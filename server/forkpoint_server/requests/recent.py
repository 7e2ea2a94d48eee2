"""The traces of requests that run, and of recent ones in a bounded memory: oldest out first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from forkpoint_server.traces.trace import Trace

    from .context import RequestContext

MAX_TOKENS = 2_000_000
"""Altogether, each alternative that is kept being as much as a token: some hundred bytes."""


class Kept(Protocol):
    """What can be told of later: a finished intervention, or a measured text."""

    @property
    def response_id(self) -> str | None:
        """The id to find it by."""

    @property
    def traces(self) -> Sequence[Trace]:
        """Its choices."""

    def report(self) -> dict[str, Any]:
        """What `GET /v1/forks/{request_id}` answers."""


class Traces:
    """Requests by the id of their response."""

    def __init__(self, most_tokens: int = MAX_TOKENS) -> None:
        self._kept: OrderedDict[str, tuple[int, Kept]] = OrderedDict()
        self._most_tokens = most_tokens
        self._tokens = 0
        self._running: list[RequestContext] = []

    @contextmanager
    def entered(self, intervention: RequestContext) -> Iterator[None]:
        """Have it among those that run, and keep it when it has ended."""
        self._running.append(intervention)
        try:
            yield
        finally:
            self._running = [one for one in self._running if one is not intervention]
            self.keep(intervention)

    def running(self, response_id: str) -> RequestContext | None:
        """A request that was given to the engine and has not ended, the last of this id; none where no traces are kept."""
        if not self._most_tokens:
            return None
        return next((one for one in reversed(self._running) if one.name == response_id and not one.silent), None)

    def runs(self, intervention: RequestContext) -> bool:
        return any(one is intervention for one in self._running)

    def keep(self, kept: Kept) -> None:
        """Keep a finished request's traces; one without a response (its client left) is not kept.

        Clients may choose ids (X-Request-Id): of several requests with the same one, the last is kept.
        """
        name = kept.response_id
        if name is None:
            return
        if name in self._kept:
            self._tokens -= self._kept.pop(name)[0]
        prompts = {id(trace.prompt): len(trace.prompt) for trace in kept.traces}
        size = 1 + sum(trace.size for trace in kept.traces) + sum(prompts.values())
        self._kept[name] = size, kept
        self._tokens += size
        while self._tokens > self._most_tokens and self._kept:
            self._tokens -= self._kept.popitem(last=False)[1][0]

    def get(self, response_id: str) -> Kept | None:
        kept = self._kept.get(response_id)
        return None if kept is None else kept[1]
