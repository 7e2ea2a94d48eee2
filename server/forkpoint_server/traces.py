"""The traces of recent requests, in a bounded memory: oldest out first."""

from __future__ import annotations

from collections import OrderedDict

from .intervention import Intervention

MOST_TOKENS = 2_000_000


class Traces:
    """Finished interventions by the id of their response."""

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self._kept: OrderedDict[str, tuple[int, Intervention]] = OrderedDict()
        self._most_tokens = most_tokens
        self._tokens = 0

    def keep(self, intervention: Intervention) -> None:
        """Keep a finished request's traces; one without a response (its client left) is not kept.

        Clients may choose ids (X-Request-Id): of several requests with the same one, the last is kept.
        """
        name = intervention.response_id
        if name is None:
            return
        if name in self._kept:
            self._tokens -= self._kept.pop(name)[0]
        size = 1 + sum(len(trace.tokens) for trace in intervention.traces)
        self._kept[name] = size, intervention
        self._tokens += size
        while self._tokens > self._most_tokens and self._kept:
            self._tokens -= self._kept.popitem(last=False)[1][0]

    def get(self, response_id: str) -> Intervention | None:
        kept = self._kept.get(response_id)
        return None if kept is None else kept[1]
