"""What is known of an answer when one of several is to be chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.spec import Select
from forkpoint_policies.spec.answer_extractors import extractor
from forkpoint_server.requests.tree import Node
from forkpoint_server.traces.trace import Trace

from .choice_output import text_of
from .runner import Grown, TreeRunner
from .voting import Leaf


def leaf_of(growth: TreeRunner, grown: Grown, extract: str, select: Select, window: int) -> Leaf:
    """An answer as it stands for a choice of this kind; what it says is read once, when it has ended by itself."""
    if grown.leaf is None and not grown.running:
        grown.leaf = _read(growth, grown, extract, select, window)
    return grown.leaf or Leaf(grown.node.number)


def _read(growth: TreeRunner, grown: Grown, extract: str, select: Select, window: int) -> Leaf:
    node, answer = grown.node, grown.answer
    if node.ended not in ("stop", "length"):
        return Leaf(node.number, ended_at=node.ended_at, truncated=True, failed=True)
    whole = node.ended == "stop"
    likelihood = answer.log_probability
    said = said_tokens(growth, grown)
    return Leaf(
        number=node.number,
        answer=extractor(extract)(said_text(growth, grown)) if whole else None,
        ended_at=node.ended_at,
        truncated=not whole,
        mean_log_probability=None if likelihood is None else likelihood / len(answer.tokens),
        confidence=lowest_confidence(confidences(node), window) if select == "confidence" else None,
        margin=_mean(margins(node)[len(answer.tokens) - len(said) :]) if select == "margin" else None,
    )


def said_tokens(growth: TreeRunner, grown: Grown) -> Sequence[int]:
    """The tokens after the reasoning; all where no end of it was written."""
    end, tokens = growth.intervention.compiled.program.reasoning_end, grown.answer.tokens
    return tokens[len(tokens) - tokens[::-1].index(end) :] if end in tokens else tokens


def said_text(growth: TreeRunner, grown: Grown) -> str:
    said, answer = said_tokens(growth, grown), grown.answer
    if len(said) == len(answer.tokens):
        return answer.text
    return text_of(said, growth.intervention.model.vocabulary, growth.params)


def confidences(node: Node) -> NDArray[np.float64]:
    """The confidence at each token of the answer, in nats: -1/k Σ ln p of the k likeliest tokens; NaN where it is not known."""
    return _signal(node, lambda trace: trace.confidence)


def margins(node: Node) -> NDArray[np.float64]:
    """By how much the likeliest token led the second at each token of the answer; NaN where it is not known."""
    return _signal(node, lambda trace: trace.margin)


def lowest_confidence(found: NDArray[np.float64], window: int) -> float | None:
    """The lowest mean over a window of so many tokens; of a shorter answer, the mean of all. In nats."""
    known = found[~np.isnan(found)]
    if not len(known):
        return None
    sums = np.concatenate(([0.0], known.cumsum()))
    width = min(window, len(known))
    return float((sums[width:] - sums[:-width]).min() / width)


def _signal(node: Node, of: Callable[[Trace], dict[int, float]]) -> NDArray[np.float64]:
    found = np.full(node.length, np.nan)
    path = node.path()
    for one, until in zip(path, [*(following.position for following in path[1:]), node.length], strict=True):
        own = range(one.begun, min(until, one.length))
        told = of(one.trace)
        found[one.begun : own.stop] = [told.get(position, np.nan) for position in own]
        found[[position for position in one.trace.foreign if position in own]] = np.nan
    return found


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
