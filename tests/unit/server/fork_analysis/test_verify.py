"""Positions with a single possible token are no forks, and do not cost the others their verdict."""

from __future__ import annotations

from collections import Counter

from forkpoint_server.fork_analysis.significance import NO_FORK
from forkpoint_server.fork_analysis.verify import Alternative, Fork, Outcome, _verdicts


def fork(index: int, *answers: str) -> Fork:
    """A fork whose alternatives each led to one answer, six times."""
    outcomes: list[Counter[Outcome]] = [Counter({answer: 6}) for answer in answers]
    return Fork(index, tuple(Alternative(token, outcome) for token, outcome in enumerate(outcomes)))


def test_a_position_without_alternatives_is_no_fork_and_none_of_the_family() -> None:
    forks = [fork(0, "1", "2"), *(fork(index, "1") for index in range(1, 90)), Fork(90, ())]
    found = _verdicts(forks, 0.05, seed=1)
    assert found[1:] == [NO_FORK] * 90
    assert found[0].verified
    assert found[0].q == found[0].p
    assert not _verdicts([forks[0], *(fork(index, "1", "1") for index in range(1, 90))], 0.05, seed=1)[0].verified
