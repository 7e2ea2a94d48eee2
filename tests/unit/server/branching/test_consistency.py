"""Answers vote, and no more are sampled than the rule needs."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_server.requests.tree import Node

from .scripted_answers import Said, sampling

SAME = [(2, "7")] * 8


def ended(nodes: list[Node]) -> list[str | None]:
    return [node.ended for node in nodes]


def chosen(nodes: list[Node]) -> int:
    (number,) = [node.number for node in nodes if node.chosen]
    return number


@pytest.mark.parametrize(
    ("answers", "first"),
    [
        ([(1, "4"), (1, "5"), (1, "5")], 1),
        ([(1, "4"), (9, "5"), (1, "5"), (1, "4")], 0),  # as many votes: the one that was sampled first
        ([(1, None), (1, "5")], 1),
        ([(1, None), (1, None)], 0),
    ],
)
def test_the_majority(answers: list[Said], first: int) -> None:
    nodes = sampling({"answers": len(answers), "select": "majority"}, answers).run()
    assert len(nodes) == len(answers)
    assert chosen(nodes) == first


def test_a_majority_that_is_certain_stops_the_rest() -> None:
    answers = [(1, "7"), (1, "7"), (1, "7"), (30, "4"), (30, "4")]
    nodes = sampling({"answers": 5, "select": "majority"}, answers).run()
    assert ended(nodes) == ["stop", "stop", "stop", "outvoted", "outvoted"]
    all_of_them = sampling({"answers": 5, "select": "majority", "decided_at": None}, answers).run()
    assert ended(all_of_them)[3:] == ["outvoted", "outvoted"], "they could not change it"


def test_a_share_of_the_votes_decides_only_where_it_is_set() -> None:
    answers = [(1, "7"), (1, "7"), (1, "7"), *[(9, "4")] * 5]
    assert ended(sampling({"answers": 8, "select": "majority"}, answers).run()).count("outvoted") == 0
    decided = sampling({"answers": 8, "select": "majority", "decided_at": 0.9}, answers).run()
    assert ended(decided).count("outvoted") == 5


def test_answers_one_at_a_time_until_the_posterior_is_reached() -> None:
    tree = sampling({"answers": 8, "select": "majority", "posterior_at": 0.95}, SAME)
    assert ended(tree.run()) == ["stop"] * 4
    assert tree.max_running_seen == 1


def test_more_at_a_time_are_counted_in_the_same_order() -> None:
    """The third says something else; those after the point of stopping have no vote."""
    answers = [(9, "7"), (1, "7"), (1, "4"), (1, "7"), (1, "7"), (1, "7"), (1, "7"), (1, "7")]
    one = sampling({"answers": 8, "select": "majority", "posterior_at": 0.9}, answers).run()
    tree = sampling({"answers": 8, "select": "majority", "posterior_at": 0.9, "at_a_time": 3}, answers)
    several = tree.run()
    assert len(one) == 6, "P(x > 1/2) is .89 under Beta(5, 2), .94 under Beta(6, 2)"
    assert tree.max_running_seen == 3
    assert len(several) >= len(one)
    assert chosen(one) == chosen(several) == 0


def test_windows_until_one_agrees() -> None:
    answers = [(1, "4"), (1, "4"), (1, "7"), (9, "7"), (1, "7"), (1, "7"), (1, "1"), (1, "1"), (1, "1")]
    tree = sampling({"answers": 9, "select": "majority", "unanimous": 3}, answers)
    nodes = tree.run()
    assert len(nodes) == 6
    assert chosen(nodes) == 3
    assert tree.max_running_seen == 3


@pytest.mark.parametrize(("first_by", "left"), [("reasoning", "stop"), ("text", "outvoted")])
def test_the_first_to_end_have_a_vote_and_ties_go_to_the_shortest(first_by: str, left: str) -> None:
    """The last has the shortest reasoning but a long text after it."""
    answers: list[Said] = [(20, "9"), (4, "7"), (2, "4", 9)]
    action = {"answers": 3, "select": "majority", "first": 2, "first_by": first_by}
    nodes = sampling(action, answers).run()
    assert ended(nodes) == ["outvoted", "stop", "stop"]
    assert chosen(nodes) == 2
    single = sampling({**action, "first": 1}, answers).run()
    assert ended(single)[2] == left
    assert chosen(single) == (2 if first_by == "reasoning" else 1)


def test_no_more_answers_than_there_is_room_for() -> None:
    """The others start when one has ended; those that never do are reported."""
    tree = sampling({"answers": 6, "select": "majority", "first": 2}, [(3, "7")] * 6, max_running=2)
    tree.runner.tree.num_requested = None
    assert len(tree.run()) == 2
    assert tree.context.warnings == ()
    waited = sampling({"answers": 6, "select": "self-certainty"}, [(3, "7")] * 6, max_running=2)
    waited.runner.tree.num_requested = None
    assert len(waited.run()) == 6
    assert waited.max_running_seen == 2
    assert waited.context.warnings == ()


def test_the_surest_answers_have_more_votes() -> None:
    """By hand, power 1: ranks 3, 2 and 1 of 4 against the one at rank 4, which has 4 votes; 3 + 2 > 4."""
    answers: list[Said] = [(1, "4"), (1, "5"), (1, "5"), (1, "6")]
    sureness = {0: 9.0, 1: 3.0, 2: 2.0, 3: 1.0}
    nodes = sampling({"answers": 4, "select": "self-certainty", "power": 1.0}, answers, certainty=sureness).run()
    assert chosen(nodes) == 1
    nodes = sampling({"answers": 4, "select": "self-certainty", "power": 3.0}, answers, certainty=sureness).run()
    assert chosen(nodes) == 0


@pytest.mark.parametrize(
    "action",
    [
        {"select": "majority"},
        {"select": "majority", "posterior_at": 0.95},
        {"select": "majority", "unanimous": 4},
        {"select": "self-certainty"},
    ],
)
def test_the_placebo_samples_as_many_and_returns_any_of_them(action: dict[str, Any]) -> None:
    answers: list[Said] = [(1, "7"), (1, "7"), (1, "7"), (1, "7"), (1, "4"), (1, "4"), (1, "7"), (1, "7")]
    policy = sampling({"answers": 8, **action}, answers).run()
    returned = set()
    for seed in range(25):
        nodes = sampling({"answers": 8, **action}, answers, placebo=True, seed=seed).run()
        assert len(nodes) == len(policy)
        returned.add(chosen(nodes))
    assert len(returned) > 2


def test_the_placebo_of_the_first_to_end_waits_for_some_chosen_at_random() -> None:
    action = {"answers": 4, "select": "majority", "first": 1, "first_by": "text"}
    answers: list[Said] = [(2, "1"), (6, "2"), (10, "3"), (14, "4")]
    returned = {chosen(sampling(action, answers, placebo=True, seed=seed).run()) for seed in range(25)}
    assert returned == {0, 1, 2, 3}
