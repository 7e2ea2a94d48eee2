"""Selects the answer of a tree to return, and decides when the others can no longer change the selection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forkpoint_policies.spec import Select

MIN_VOTES = 3
"""Votes before a share of them decides."""


@dataclass(frozen=True)
class Candidate:
    """An answer as the vote sees it. `answer` is what it says: None while it runs, or if nothing could be extracted.

    `mean_log_probability` is in nats per token, `confidence` the lowest group confidence in nats, `margin` the mean
    lead of the likeliest token over the second where the answer is written, `self_certainty` the mean divergence from
    the uniform distribution in nats; each is None if unknown. `end_order` is how many answers had ended before. One
    that was cut inside its reasoning is not an answer yet.
    """

    number: int
    answer: str | None = None
    end_order: int | None = None
    truncated: bool = False
    failed: bool = False
    cut_in_reasoning: bool = False
    mean_log_probability: float | None = None
    confidence: float | None = None
    margin: float | None = None
    self_certainty: float | None = None
    num_tokens: int = 0
    num_reasoning_tokens: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it has ended with an answer, so that it can have a vote."""
        return self.end_order is not None and not self.truncated and not self.cut_in_reasoning


def choose(candidates: Sequence[Candidate], select: Select) -> int | None:
    """The number of the answer to return; None if none has ended.

    Whole answers go before truncated ones, and those before answers that were cut inside their reasoning.
    """
    ended = [candidate for candidate in candidates if candidate.end_order is not None]
    possible = (
        [candidate for candidate in ended if candidate.is_whole]
        or [candidate for candidate in ended if not candidate.failed and not candidate.cut_in_reasoning]
        or [candidate for candidate in ended if not candidate.failed]
        or ended
    )
    if not possible:
        return None
    if select in ("majority", "confidence", "margin"):
        votes = count_votes(possible, select)
        if votes:
            most = max(votes.values())
            winners = {answer for answer, weight in votes.items() if weight == most}
            possible = [candidate for candidate in possible if candidate.answer in winners]
    ranked: dict[Select, list[float | None]] = {
        "majority": [candidate.mean_log_probability for candidate in possible],
        "likelihood": [candidate.mean_log_probability for candidate in possible],
        "confidence": [candidate.confidence for candidate in possible],
        "margin": [candidate.margin for candidate in possible],
    }
    ranks = ranked.get(select, [None] * len(possible))
    best = max(
        zip(ranks, possible, strict=True),
        key=lambda one: (float("-inf") if one[0] is None else one[0], -(one[1].end_order or 0), -one[1].number),
    )
    return best[1].number


def count_votes(candidates: Sequence[Candidate], select: Select) -> dict[str, float]:
    """The votes for each answer by those that have ended whole, weighted by their confidence or margin if those
    select."""
    votes: defaultdict[str, float] = defaultdict(float)
    for candidate in candidates:
        if candidate.answer is not None and candidate.is_whole:
            votes[candidate.answer] += _weight(candidate, select)
    return dict(votes)


def elect(candidates: Sequence[Candidate], votes: Mapping[int, float] | None = None) -> int | None:
    """The number of the first candidate that says what has the most votes, one each or these; None without a vote.

    Of answers with as many votes, it is the one that was said first, in the order of the candidates.
    """
    totals: defaultdict[str, float] = defaultdict(float)
    said_by: dict[str, int] = {}
    for candidate in candidates:
        if candidate.answer is not None and candidate.is_whole:
            totals[candidate.answer] += 1.0 if votes is None else votes[candidate.number]
            said_by.setdefault(candidate.answer, candidate.number)
    return said_by[max(totals, key=totals.__getitem__)] if totals else None


def ranked_votes(values: Mapping[int, float | None], power: float) -> dict[int, float]:
    """The votes of candidates by their values' ranks: of n, the one at rank r, from 1, has (n + 1 - r) ^ power (Borda).

    Equal values rank in the order of the candidates, unknown ones last.
    """
    order = sorted(values, key=lambda number: (values[number] is None, -(values[number] or 0.0)))
    return {number: float(len(order) - place) ** power for place, number in enumerate(order)}


def first_ended(candidates: Sequence[Candidate], number: int) -> list[Candidate]:
    """The whole answers that ended first, at most so many, in this order."""
    whole = [candidate for candidate in candidates if candidate.is_whole]
    return sorted(whole, key=lambda candidate: candidate.end_order or 0)[:number]


def decided(
    candidates: Sequence[Candidate], select: Select, share: float | None, more: int = 0, first: int = 1
) -> bool:
    """Whether the selection is final: the answers that still run, and `more` that may start, can no longer change it.

    With a `share`, also once one answer has this share of the votes. `first` is how many answers must have ended where
    those that end first are selected.
    """
    running = [candidate for candidate in candidates if candidate.end_order is None]
    if select == "first":
        return sum(candidate.is_whole for candidate in candidates) >= first
    if select not in ("majority", "confidence"):
        return not running
    votes = count_votes(candidates, select)
    if not votes:
        return not running
    if share is not None and agreed(candidates, select, share):
        return True
    most, *others = sorted(votes.values(), reverse=True)
    if select == "confidence":  # the weights of running answers are unknown
        return not running
    return most - (others[0] if others else 0) > len(running) + more


def agreed(candidates: Sequence[Candidate], select: Select, share: float) -> bool:
    """Whether one answer has this share of the votes so far."""
    votes = count_votes(candidates, select)
    voted = sum(candidate.answer is not None and candidate.is_whole for candidate in candidates)
    return voted >= MIN_VOTES and max(votes.values()) >= share * sum(votes.values())


def _weight(candidate: Candidate, select: Select) -> float:
    if select == "margin":
        return candidate.margin or 0.0
    return 1.0 if select == "majority" or candidate.confidence is None else candidate.confidence
