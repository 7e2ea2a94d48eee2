"""Which answer is returned, and when the others can no longer change it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.spec import Select
from forkpoint_server.branching.voting import Candidate, choose, count_votes, decided, elect, first_ended, ranked_votes

SELECTS: tuple[Select, ...] = ("majority", "likelihood", "confidence", "margin", "first")


def candidates(*answers: str | None, **options: Any) -> list[Candidate]:
    """Answers that ended in this order; None for one that still runs."""
    return [
        Candidate(number, answer, None if answer is None else number, **options)
        for number, answer in enumerate(answers)
    ]


def test_the_majority_and_of_it_the_likeliest() -> None:
    some = [
        Candidate(0, "4", 0, mean_log_probability=-0.1),
        Candidate(1, "5", 1, mean_log_probability=-0.9),
        Candidate(2, "5", 2, mean_log_probability=-0.5),
    ]
    assert choose(some, "majority") == 2
    assert choose(some, "likelihood") == 0
    assert choose(some, "first") == 0


def test_a_truncated_answer_has_no_vote_and_is_chosen_only_if_it_is_the_only_one() -> None:
    some = [Candidate(0, None, 0, truncated=True), Candidate(1, "5", 1), Candidate(2, "6", None)]
    assert choose(some, "first") == 1
    assert choose(some[:1], "first") == 0
    assert choose([Candidate(0)], "first") is None
    assert count_votes(some, "majority") == {"5": 1.0}


def test_an_answer_cut_in_its_reasoning_has_no_vote_and_is_chosen_last() -> None:
    cut = [Candidate(number, "7", number, cut_in_reasoning=True) for number in range(3)]
    truncated, whole = Candidate(3, None, 3, truncated=True), Candidate(4, "5", 4)
    for select in SELECTS:
        assert choose([*cut, truncated, whole], select) == 4, select
        assert choose([*cut, truncated], select) == 3, select
        assert choose(cut, select) in (0, 1, 2), select
    assert count_votes([*cut, whole], "majority") == {"5": 1.0}
    assert not decided(cut + candidates(None), "first", None)
    assert not decided(cut + candidates(None), "majority", 0.5)


def test_votes_are_weighted_by_confidence() -> None:
    some = [
        Candidate(0, "4", 0, confidence=1.0),
        Candidate(1, "4", 1, confidence=1.0),
        Candidate(2, "5", 2, confidence=3.0),
    ]
    assert choose(some, "majority") in (0, 1)
    assert choose(some, "confidence") == 2


def test_margins_of_equal_answers_are_summed() -> None:
    some = [
        Candidate(0, "4", 0, margin=0.5),
        Candidate(1, "5", 1, margin=0.3),
        Candidate(2, "5", 2, margin=0.4),
        Candidate(3, "5", 3),
    ]
    assert choose(some, "margin") == 2
    assert choose(some[:2], "margin") == 0


def test_the_first_of_those_who_say_what_most_say() -> None:
    some = candidates("4", "5", None, "5", "4")
    assert elect(some) == 0
    assert elect(some[1:]) == 1
    assert elect(some, {0: 1.0, 1: 2.0, 2: 9.0, 3: 1.0, 4: 1.0}) == 1
    assert elect([Candidate(0, None, 0), Candidate(1, "4", 1, cut_in_reasoning=True)]) is None


def test_votes_by_rank() -> None:
    assert ranked_votes({0: 0.5, 1: None, 2: 2.0, 3: 0.5}, 2.0) == {2: 16.0, 0: 9.0, 3: 4.0, 1: 1.0}
    assert set(ranked_votes({0: 0.5, 1: 0.7}, 0.0).values()) == {1.0}


def test_the_first_answers_that_ended() -> None:
    some = [Candidate(0, "4", 2), Candidate(1, "5", 0, truncated=True), Candidate(2, "6", 1), Candidate(3)]
    assert [one.number for one in first_ended(some, 1)] == [2]
    assert [one.number for one in first_ended(some, 3)] == [2, 0]
    assert not decided(some, "first", None, first=3)
    assert decided(some, "first", None, first=2)


def test_the_widest_margin() -> None:
    assert (
        choose([Candidate(0, "4", 0, margin=0.2), Candidate(1, "5", 1, margin=0.9), Candidate(2, "6", 2)], "margin")
        == 1
    )


@pytest.mark.parametrize(
    ("answers", "select", "share", "over"),
    [
        (("4", None), "first", None, True),
        ((None, None), "first", None, False),
        (("4", "4", None), "majority", None, True),
        (("4", "4", None, None), "majority", None, False),
        (("4", "4", "5", None), "majority", None, False),
        (("4", "4", "4", None, None, None), "majority", 0.95, True),
        (("4", "4", "5", None, None, None), "majority", 0.95, False),
        (("4", "4", None, None, None), "majority", 0.95, False),
        (("4", "4", "4", None), "confidence", None, False),
        (("4", None), "likelihood", None, False),
        (("4", "5"), "likelihood", None, True),
    ],
)
def test_when_a_vote_is_decided(
    answers: tuple[str | None, ...], select: Select, share: float | None, over: bool
) -> None:
    assert decided(candidates(*answers), select, share) is over


@given(
    st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=9),
    st.lists(st.sampled_from(["a", "b"]), min_size=9, max_size=9),
)
def test_a_decided_vote_stays_decided(now: list[str | None], later: list[str]) -> None:
    """The same answer wins for every outcome of the answers that are still running."""
    some = candidates(*now)
    if not decided(some, "majority", None):
        return
    winner = some[number].answer if (number := choose(some, "majority")) is not None else None
    whole = [
        candidate if candidate.end_order is not None else Candidate(candidate.number, later[candidate.number], 9)
        for candidate in some
    ]
    final = choose(whole, "majority")
    assert final is not None
    assert whole[final].answer == winner
