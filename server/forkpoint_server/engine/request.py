"""One call of `EngineClient.generate` under a policy, and the engine requests that belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from forkpoint_server.requests.context import RequestContext
from forkpoint_server.vllm_seam import SamplingParams


@dataclass(frozen=True)
class EngineRequest:
    """The arguments of `EngineClient.generate`, with the context of the HTTP request they belong to."""

    prompt: Any
    params: SamplingParams
    request_id: str
    options: dict[str, Any]
    context: RequestContext


class ChildRequests:
    """The running engine requests of each client's request, so that an abort reaches them."""

    def __init__(self) -> None:
        self._children: dict[str, list[str]] = {}  # a client may choose the id, so that it need not be unique

    def of(self, request_id: str) -> Sequence[str]:
        return self._children.get(request_id, ())

    @contextmanager
    def running(self, request_id: str, children: Sequence[str]) -> Iterator[None]:
        """Note the children's ids for as long as they run."""
        self._children.setdefault(request_id, []).extend(children)
        try:
            yield
        finally:
            for child in children:
                self._children[request_id].remove(child)
            if not self._children.get(request_id):
                self._children.pop(request_id, None)
