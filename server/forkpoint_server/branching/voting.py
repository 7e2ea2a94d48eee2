"""Which answer of a tree is given, and from when on no other can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from forkpoint_policies.spec import Select

MIN_VOTES = 3
"""Votes before a share of them decides."""


@dataclass(frozen=True)
class Leaf:
    """An answer as far as it has come. `answer` is what it says, None while it runs or where nothing could be read.

    `mean_log_probability` in nats a token, `confidence` its lowest group confidence in nats, `margin` the mean lead of the
    likeliest token over the second where the answer is written: None where not known. `ended_at`: how many had ended before.
    """

    number: int
    answer: str | None = None
    ended_at: int | None = None
    truncated: bool = False
    failed: bool = False
    mean_log_probability: float | None = None
    confidence: float | None = None
    margin: float | None = None


def choose(leaves: Sequence[Leaf], select: Select) -> int | None:
    """The number of the answer to give; None where none has ended. Whole answers go before truncated ones."""
    ended = [leaf for leaf in leaves if leaf.ended_at is not None]
    possible = [leaf for leaf in ended if not leaf.truncated] or [leaf for leaf in ended if not leaf.failed] or ended
    if not possible:
        return None
    if select in ("majority", "confidence"):
        votes = count_votes(possible, select)
        if votes:
            most = max(votes.values())
            winners = {answer for answer, weight in votes.items() if weight == most}
            possible = [leaf for leaf in possible if leaf.answer in winners]
    ranked: dict[Select, list[float | None]] = {
        "majority": [leaf.mean_log_probability for leaf in possible],
        "likelihood": [leaf.mean_log_probability for leaf in possible],
        "confidence": [leaf.confidence for leaf in possible],
        "margin": [leaf.margin for leaf in possible],
    }
    ranks = ranked.get(select, [None] * len(possible))
    best = max(
        zip(ranks, possible, strict=True),
        key=lambda one: (float("-inf") if one[0] is None else one[0], -(one[1].ended_at or 0), -one[1].number),
    )
    return best[1].number


def count_votes(leaves: Sequence[Leaf], select: Select) -> dict[str, float]:
    """The votes for each answer, of those that have ended whole; with `confidence` each counts as much as it was confident."""
    votes: defaultdict[str, float] = defaultdict(float)
    for leaf in leaves:
        if leaf.answer is not None and leaf.ended_at is not None and not leaf.truncated:
            votes[leaf.answer] += _weight(leaf, select)
    return dict(votes)


def decided(leaves: Sequence[Leaf], select: Select, share: float | None, more: int = 0) -> bool:
    """Whether the answers that still run, and `more` that may begin, can no longer change what is given; or, with a share, are no
    longer waited for."""
    running = [leaf for leaf in leaves if leaf.ended_at is None]
    if select == "first":
        return any(leaf.ended_at is not None and not leaf.truncated for leaf in leaves)
    if select not in ("majority", "confidence"):
        return not running
    votes = count_votes(leaves, select)
    if not votes:
        return not running
    if share is not None and agreed(leaves, select, share):
        return True
    first, *others = sorted(votes.values(), reverse=True)
    if select == "confidence":  # what the others will weigh is not known
        return not running
    return first - (others[0] if others else 0) > len(running) + more


def agreed(leaves: Sequence[Leaf], select: Select, share: float) -> bool:
    """Whether one answer has this share of the votes so far."""
    votes = count_votes(leaves, select)
    voted = sum(leaf.answer is not None and leaf.ended_at is not None and not leaf.truncated for leaf in leaves)
    return voted >= MIN_VOTES and max(votes.values()) >= share * sum(votes.values())


def _weight(leaf: Leaf, select: Select) -> float:
    return 1.0 if select == "majority" or leaf.confidence is None else leaf.confidence
