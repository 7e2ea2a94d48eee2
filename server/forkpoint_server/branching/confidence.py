"""How sure the model was along an answer: per token, per group of tokens (DeepConf, arXiv:2508.15260), and on average
(self-certainty, arXiv:2502.18581)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forkpoint_server.requests.tree import Node
from forkpoint_server.traces.trace import Trace


def confidences(node: Node) -> NDArray[np.float64]:
    """[n], nats: the confidence at each token of the answer, -1/k Σ ln p of the k likeliest tokens; NaN if unknown."""
    return _along_path(node, lambda trace: trace.confidence)


def margins(node: Node) -> NDArray[np.float64]:
    """[n], by how much the likeliest token led the second at each token of the answer; NaN if unknown."""
    return _along_path(node, lambda trace: trace.margin)


def self_certainties(node: Node) -> NDArray[np.float64]:
    """[n], nats: the divergence from the uniform distribution at each token of the answer; NaN if unknown."""
    return _along_path(node, lambda trace: trace.certainty)


def group_confidences(values: NDArray[np.float64], window: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The mean of each group of `window` known values, in nats, and the number of tokens up to the group's end.

    Fewer known values than the window form one group.
    """
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return np.zeros(0, np.int64), np.zeros(0)
    width = min(window, len(known))
    sums = np.concatenate(([0.0], values[known].cumsum()))
    return known[width - 1 :] + 1, (sums[width:] - sums[:-width]) / width


def lowest_group_confidence(values: NDArray[np.float64], window: int) -> float | None:
    """In nats; None if no value is known."""
    _, means = group_confidences(values, window)
    return float(means.min()) if len(means) else None


@dataclass
class RunningGroupConfidence:
    """The group confidences of an answer that still runs, one token at a time."""

    window: int
    _sums: list[float] = field(default_factory=lambda: [0.0])

    @property
    def num_tokens(self) -> int:
        return len(self._sums) - 1

    @property
    def latest(self) -> float | None:
        """The mean of the last `window` values, in nats; None before there are as many."""
        if self.num_tokens < self.window:
            return None
        return (self._sums[-1] - self._sums[-1 - self.window]) / self.window

    def add(self, confidence: float) -> None:
        self._sums.append(self._sums[-1] + confidence)


def _along_path(node: Node, values_of: Callable[[Trace], dict[int, float]]) -> NDArray[np.float64]:
    found = np.full(node.length, np.nan)
    path = node.path()
    for part, until in zip(path, [*(child.position for child in path[1:]), node.length], strict=True):
        own = range(part.first_position, min(until, part.length))
        values = values_of(part.trace)
        found[part.first_position : own.stop] = [values.get(position, np.nan) for position in own]
        found[[position for position in part.trace.invalid_positions if position in own]] = np.nan
    return found
