"""Branches start at forks, within the shape that the policy sets, and their answers are selected from."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import parse_policy
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.requests.summary import summary
from tests.unit.policies.vocabularies import END, END_THINK, TARGET

from .stub_engine import A, B, C, StubTree, number, rest


def test_branches_share_the_tokens_before_their_fork() -> None:
    tree = StubTree({"branch": {"depth": 1}}, rest, answers=3)
    nodes = tree.run()
    assert [(node.parent and node.parent.number, node.position, node.forced_tokens) for node in nodes] == [
        (None, 0, ()), (0, 0, (B,)), (0, 1, (B,)),
    ]  # fmt: skip
    assert tree.texts() == {0: "so" * 6, 1: "but" + "so" * 5, 2: "so" + "but" + "so" * 4}
    assert [start.tokens for start in tree.started] == [[], [B], [A, B]]
    assert tree.outputs_sent[-1].finished
    assert not any(output.finished for output in tree.outputs_sent[:-1])
    assert (tree.runner.tree.num_generated_tokens, tree.runner.tree.num_shared_tokens) == (7 + 7 + 6, 0 + 1)
    assert len({start.seed for start in tree.started}) == 3


@pytest.mark.parametrize(
    ("branch", "positions"),
    [
        ({"width": 2, "depth": 1}, [0, 0, 1, 1, 2]),
        ({"min_gap": 3, "depth": 1}, [0, 3, 6]),
        ({"max_branches": 2, "depth": 1}, [0]),
        ({"depth": 1, "budget_tokens": 8}, [0, 1]),
    ],
)
def test_the_shape_of_a_tree(branch: dict[str, Any], positions: list[int]) -> None:
    answers = branch.get("max_branches", 6)
    nodes = StubTree({"branch": {"fill": "none", **branch}}, rest, answers=answers).run()
    found = [node.position for node in nodes[1:]]
    if "budget_tokens" in branch:
        assert 1 <= len(found) < 5
    else:
        assert found == positions


def test_only_connectors_of_a_family() -> None:
    family = find_connectors(TARGET.vocabulary).family(A)
    tree = StubTree({"branch": {"alternatives": {"connectors": [family]}}}, lambda start: [C, C, END])
    assert {node.forced_tokens for node in tree.run()[1:]} == {(A,)}


def test_no_answer_starts_beyond_the_maximum_depth() -> None:
    nodes = StubTree({"branch": {"depth": 2}}, rest, answers=9).run()
    assert max(node.depth for node in nodes) == 2


@pytest.mark.parametrize("when", [{}, {"entropy_above": 0.5}], ids=["anywhere", "where unsure"])
def test_the_placebo_counts_only_forks_whose_likeliest_tokens_are_uncertain(when: dict[str, Any]) -> None:
    """One position in five is open: as many branches start, at any position."""
    like = {"when": when, "do": {"branch": {"depth": 1, "top_entropy_above": 0.5, "top_entropy_of": 3, "fill": "none"}}}
    policy = parse_policy({"rules": [{"do": {"control": {"like": like, "match": "positions"}}}]})
    counts, positions = [], set()
    for seed in range(12):
        tree = StubTree(policy, lambda start: [A] * max(0, 20 - len(start.tokens)) + [END], answers=30, seed=seed)
        tree.likely_at = lambda position: (0.4, 0.3, 0.3) if position % 5 == 0 else (0.98, 0.01, 0.01)
        nodes = tree.run()
        counts.append(len([node for node in nodes if node.depth == 1]))
        positions |= {node.position for node in nodes if node.depth == 1}
    assert set(counts) == {5}, "the positions 0, 5, 10, 15 and 20"
    assert len(positions) > 10


def forks_once(start: ChildStart, position: int) -> bool:
    return not start.tokens and position == 2


@pytest.mark.parametrize("fill", [{}, {"fill": "sample"}])
def test_missing_choices_are_sampled(fill: dict[str, Any]) -> None:
    tree = StubTree({"branch": {**fill, "depth": 1}}, rest, forks=forks_once)
    nodes = tree.run()
    assert [node.parent and node.parent.number for node in nodes] == [None, 0, None, None]
    assert sorted(tree.texts()) == [0, 1, 2, 3]
    assert len({start.seed for start in tree.started}) == 4
    assert tree.context.missing_choices is None


def test_missing_choices_are_sampled_on_a_full_engine_too() -> None:
    """One at a time, in the place of the trunk, which has ended."""
    tree = StubTree({"branch": {"depth": 1}}, rest, forks=forks_once, max_running=1)
    assert len(tree.run()) == 4
    assert tree.max_running_seen == 1


def test_fewer_choices_where_the_policy_says_so() -> None:
    tree = StubTree({"branch": {"fill": "none", "depth": 1}}, rest, forks=forks_once)
    assert len(tree.run()) == 2
    assert tree.context.missing_choices == "2 of 4"
    assert summary(tree.context)["warnings"] == ["returns 2 of 4 choices"]


def test_an_aborted_request_is_not_filled() -> None:
    """The engine ends the trunk without a reason of its own."""
    tree = StubTree({"branch": {"depth": 1}}, lambda start: [A, A], forks=lambda start, position: False)
    assert [node.ended for node in tree.run()] == ["abort"]


@pytest.mark.parametrize("select", ["majority", "likelihood", "confidence", "margin", "first"])
def test_an_answer_cut_in_its_reasoning_is_not_returned(select: str) -> None:
    """Two answers are cut at a token that ends them within their reasoning; the third says something."""

    def play(start: ChildStart) -> list[int]:
        return [*rest(start)[:-1], END_THINK, C, END] if start.tokens == [A, B] else [A] * 3 + [END]

    nodes = StubTree({"branch": {"select": select, "depth": 1}}, play, answers=3).run()
    assert [node.chosen for node in nodes] == [False, False, True]


def test_an_answer_cut_in_its_reasoning_is_better_than_none() -> None:
    tree = StubTree({"branch": {"select": "majority", "depth": 1}}, rest, answers=3)
    assert sum(node.chosen for node in tree.run()) == 1


def test_a_majority_is_returned_and_stops_the_rest() -> None:
    tree = StubTree({"branch": {"select": "majority", "extract": "text", "depth": 1}}, number, answers=5)
    nodes = tree.run()
    assert len(tree.outputs_sent) == 1
    chosen = [node for node in nodes if node.chosen]
    assert len(chosen) == 1
    assert chosen[0].parent is not None, "the trunk's answer differs from the others"
    assert tree.outputs_sent[0].outputs[0].index == 0
    assert {node.ended for node in nodes} <= {"stop", "outvoted"}


def test_the_first_to_end_stops_the_rest() -> None:
    tree = StubTree(
        {"branch": {"select": "first", "depth": 1}},
        lambda start: [END_THINK, END] if start.tokens == [A, B] else [A] * 20,
        answers=3,
    )
    nodes = tree.run()
    assert [node.ended for node in nodes] == ["outvoted", "outvoted", "stop"]
    assert [node.chosen for node in nodes] == [False, False, True]
