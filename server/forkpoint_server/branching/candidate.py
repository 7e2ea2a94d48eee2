"""Reads an answer that has ended as a candidate of the vote."""

from __future__ import annotations

import numpy as np

from forkpoint_policies.spec import Select
from forkpoint_policies.spec.answer_extractors import extractor

from .choice_output import text_of
from .confidence import confidences, lowest_group_confidence, margins
from .interface import Choice, TreeRequest
from .voting import Candidate


def candidate_of(request: TreeRequest, choice: Choice, extract: str, select: Select, window: int) -> Candidate:
    """A choice as it stands in a vote of this kind; its text and figures are read once, after it has ended."""
    if choice.candidate is None and not choice.running:
        choice.candidate = _read(request, choice, extract, select, window)
    return choice.candidate or Candidate(choice.node.number)


def text_after_reasoning(request: TreeRequest, choice: Choice) -> str:
    """The text after the end of the reasoning; all of it without one."""
    output = choice.output
    start = request.regions.read(output.tokens, request.region).answer_start
    return text_of(output.tokens[start:], request.vocabulary, request.params) if start else output.text


def _read(request: TreeRequest, choice: Choice, extract: str, select: Select, window: int) -> Candidate:
    node, output = choice.node, choice.output
    if node.ended not in ("stop", "length"):
        return Candidate(node.number, end_order=node.end_order, truncated=True, failed=True)
    truncated = node.ended == "length"
    speaks = not truncated and not choice.cut_in_reasoning
    log_probability = output.log_probability
    return Candidate(
        number=node.number,
        answer=extractor(extract)(text_after_reasoning(request, choice)) if speaks else None,
        end_order=node.end_order,
        truncated=truncated,
        cut_in_reasoning=choice.cut_in_reasoning,
        mean_log_probability=None if log_probability is None else log_probability / len(output.tokens),
        confidence=lowest_group_confidence(confidences(node), window) if select == "confidence" else None,
        margin=_mean_margin(request, choice) if select == "margin" else None,
    )


def _mean_margin(request: TreeRequest, choice: Choice) -> float | None:
    tokens = choice.output.tokens
    first = request.regions.read(tokens, request.region).answer_start
    values = margins(choice.node)[first:]
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
