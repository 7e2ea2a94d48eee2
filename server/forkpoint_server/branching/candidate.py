"""Reads an answer that has ended as a candidate of the vote."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.spec import Select

from .answer_span import answer_span
from .choice_output import bytes_of, text_of
from .confidence import confidences, lowest_group_confidence, margins, self_certainties
from .interface import Choice, TreeRequest
from .voting import Candidate

Read = Select | Literal["self-certainty"]
"""What a vote reads of its candidates."""


def candidate_of(request: TreeRequest, choice: Choice, extract: str, select: Read, window: int) -> Candidate:
    """A choice as it stands in a vote of this kind; its text and figures are read once, after it has ended."""
    if choice.candidate is None and not choice.running:
        choice.candidate = _read(request, choice, extract, select, window)
    return choice.candidate or Candidate(choice.node.number)


def text_after_reasoning(request: TreeRequest, choice: Choice) -> str:
    """The text after the end of the reasoning; all of it without one.

    Without special tokens, which vLLM writes for its reasoning parsers.
    """
    output = choice.output
    start = request.regions.read(output.tokens, request.region).answer_start
    if not start:
        return output.text
    tokens = [token for token in output.tokens[start:] if token not in request.vocabulary.silent]
    return text_of(tokens, request.vocabulary, request.params)


def _read(request: TreeRequest, choice: Choice, extract: str, select: Read, window: int) -> Candidate:
    node, output = choice.node, choice.output
    if node.ended not in ("stop", "length"):
        return Candidate(node.number, end_order=node.end_order, truncated=True, failed=True)
    truncated = node.ended == "length"
    speaks = not truncated and not choice.cut_in_reasoning
    answer = node.answer if speaks else None
    log_probability = output.log_probability
    return Candidate(
        number=node.number,
        answer=answer,
        end_order=node.end_order,
        truncated=truncated,
        cut_in_reasoning=choice.cut_in_reasoning,
        mean_log_probability=None if log_probability is None else log_probability / len(output.tokens),
        confidence=lowest_group_confidence(confidences(node), window) if select == "confidence" else None,
        margin=_mean_margin(request, choice, extract, answer) if select == "margin" else None,
        self_certainty=_mean(self_certainties(node)) if select == "self-certainty" else None,
        num_tokens=len(output.tokens),
        num_reasoning_tokens=request.regions.read(output.tokens, request.region).num_reasoning_tokens,
    )


def _mean_margin(request: TreeRequest, choice: Choice, extract: str, answer: str | None) -> float | None:
    """The mean margin of the tokens in which the answer is written; of all after the reasoning if none are found."""
    tokens = choice.output.tokens
    first = request.regions.read(tokens, request.region).answer_start
    written = [bytes_of([token], request.vocabulary, request.params) for token in tokens[first:]]
    last, span = len(tokens), None
    if answer is not None:
        span = answer_span(written, len(text_after_reasoning(request, choice)), extract, answer)
    if span is not None:
        first, last = first + span[0], first + span[1]
    return _mean(margins(choice.node)[first:last])


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean of the values that are known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
