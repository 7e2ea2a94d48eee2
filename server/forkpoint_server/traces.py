"""The traces of recent requests, in a bounded memory: oldest out first."""

from __future__ import annotations

from collections import OrderedDict

from .intervention import Intervention

MOST_TOKENS = 2_000_000


class Traces:
    """Finished interventions by the id of their response."""

    def __init__(self, most_tokens: int = MOST_TOKENS) -> None:
        self._kept: OrderedDict[str, Intervention] = OrderedDict()
        self._most_tokens = most_tokens
        self._tokens = 0

    def keep(self, intervention: Intervention) -> None:
        """Keep a finished request's traces; one without a response (its client left) is not kept."""
        if intervention.response_id is None:
            return
        self._kept[intervention.response_id] = intervention
        self._tokens += _size(intervention)
        while self._tokens > self._most_tokens and self._kept:
            self._tokens -= _size(self._kept.popitem(last=False)[1])

    def get(self, response_id: str) -> Intervention | None:
        return self._kept.get(response_id)


def _size(intervention: Intervention) -> int:
    return 1 + sum(len(trace.tokens) for trace in intervention.traces)
