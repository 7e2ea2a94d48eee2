"""A tree branches by its policy within the engine's capacity, however its requests end. A stub runs them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forkpoint_server.branching.controllers import controller_of
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.policies.connector_tokens import find_connectors
from tests.unit.policies.vocabularies import END, END_THINK, TARGET

from .stub_engine import A, B, C, StubTree, rest


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
    nodes = StubTree({"branch": branch}, rest, answers=answers).run()
    found = [node.position for node in nodes[1:]]
    if "budget_tokens" in branch:
        assert 1 <= len(found) < 5
    else:
        assert found == positions


def test_a_tree_out_of_tokens_ends_except_for_its_trunk() -> None:
    def long(start: ChildStart) -> list[int]:
        return [A] * (20 if start.first else 40) + [END]

    tree = StubTree({"branch": {"depth": 1, "min_gap": 2, "budget_tokens": 30, "fill": "sample"}}, long, answers=4)
    nodes = tree.run()
    assert nodes[0].ended == "stop"
    assert nodes[0].length == 21
    cut = [node for node in nodes[1:] if node.ended == "length"]
    assert cut
    reasons = {
        choice.index: choice.finish_reason
        for output in tree.outputs_sent
        for choice in output.outputs
        if choice.finish_reason
    }
    assert all(reasons[node.number] == "length" for node in cut)
    assert 30 <= tree.runner.tree.num_generated_tokens <= 30 + 21 + len(nodes)


def test_only_connectors_of_a_family() -> None:
    family = find_connectors(TARGET.vocabulary).family(A)
    tree = StubTree({"branch": {"alternatives": {"connectors": [family]}}}, lambda start: [C, C, END])
    assert {node.forced_tokens for node in tree.run()[1:]} == {(A,)}


def test_no_answer_starts_beyond_the_maximum_depth() -> None:
    nodes = StubTree({"branch": {"depth": 2}}, rest, answers=9).run()
    assert max(node.depth for node in nodes) == 2


def test_a_branch_that_fails_ends_alone() -> None:
    tree = StubTree({"branch": {"depth": 1}}, lambda start: RuntimeError("no") if start.tokens == [B] else rest(start))
    nodes = tree.run()
    assert [node.ended for node in nodes] == ["stop", "error", "stop", "stop"]
    reasons = {
        choice.index: choice.finish_reason
        for output in tree.outputs_sent
        for choice in output.outputs
        if choice.finish_reason
    }
    assert reasons == {0: "stop", 1: "abort", 2: "stop", 3: "stop"}


def test_a_failure_of_the_first_answer_fails_the_request() -> None:
    tree = StubTree({"branch": {}}, lambda start: rest(start) if start.tokens else RuntimeError("no"))
    with pytest.raises(RuntimeError, match="no"):
        tree.run()


def test_a_full_engine_runs_fewer_branches() -> None:
    tree = StubTree({"branch": {"depth": 1}}, rest, answers=6, max_running=2)
    nodes = tree.run()
    assert 1 < len(nodes) < 6
    assert tree.runner.tree.num_refused > 0


def test_no_branch_starts_after_a_lost_record() -> None:
    tree = StubTree({"branch": {"depth": 1}}, rest, answers=6, lost=2)
    nodes = tree.run()
    assert [node.position for node in nodes[1:]] == [0, 1]
    assert tree.runner.tree.num_refused > 0


@pytest.mark.parametrize(("draft", "positions"), [(A, [0, 1, 2, 3]), (B, [0, 1])])
def test_no_branch_starts_where_a_rejected_draft_was_evaluated(draft: int, positions: list[int]) -> None:
    """Nor after it: the token that was sampled there has no record, so the state of a branch would be unknown."""
    tree = StubTree({"branch": {"depth": 1}}, rest, answers=5, drafts={2: draft})
    nodes = tree.run()
    assert [node.position for node in nodes[1:]] == positions


def test_a_client_that_disconnects_ends_every_request_of_its_tree() -> None:
    tree = StubTree({"branch": {}}, lambda start: [A] * 30)

    async def leave() -> None:
        rule = tree.context.compiled.policy.tree_rule
        assert rule is not None
        outputs = tree.runner.outputs(controller_of(tree.runner, rule))
        async for _ in outputs:
            if tree.running > 2:
                break
        await outputs.aclose()

    asyncio.run(leave())
    assert len(tree.started) > 2
    tree.close()


def test_missing_choices_are_sampled() -> None:
    tree = StubTree(
        {"branch": {"fill": "sample", "depth": 1}},
        rest,
        forks=lambda start, position: not start.tokens and position == 2,
    )
    nodes = tree.run()
    assert [node.parent and node.parent.number for node in nodes] == [None, 0, None, None]
    assert sorted(tree.texts()) == [0, 1, 2, 3]


def number(start: ChildStart) -> list[int]:
    """Writes "so" after B, else "but"."""
    return [*rest(start)[:-1], END_THINK, A if B in start.tokens else C, END]


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
        lambda start: [END] if start.tokens == [A, B] else [A] * 20,
        answers=3,
    )
    nodes = tree.run()
    assert [node.ended for node in nodes] == ["outvoted", "outvoted", "stop"]
    assert [node.chosen for node in nodes] == [False, False, True]


def test_the_first_certain_probe_ends_the_reasoning() -> None:
    """Even if the trunk ends first; the answer is tried instead of the connector, one token before the position."""
    probing = {"probe": {"tokens": 3, "probability_above": 0.4}}
    tree = StubTree(probing, rest, forks=lambda start, position: not start.tokens and position in (2, 4))
    nodes = tree.run()
    assert (nodes[1].kind, nodes[1].position, nodes[1].forced_tokens) == ("probe", 1, (END_THINK,))
    followed = [node for node in nodes if node.kind == "answer" and node.parent is not None]
    assert [(node.position, node.forced_tokens, node.chosen) for node in followed] == [(1, (END_THINK,), True)]
    assert tree.started[1].greedy
    assert tree.started[1].max_tokens == 3


def test_probes_that_are_never_sure_change_nothing() -> None:
    probing = {"probe": {"tokens": 3, "probability_above": 0.9}}
    tree = StubTree(probing, rest, forks=lambda start, position: not start.tokens)
    nodes = tree.run()
    assert [node.number for node in nodes if node.chosen] == [0]
    assert tree.texts() == {0: "so" * 6}


def test_continuing_after_the_answer() -> None:
    tree = StubTree({"resume": {"text": "but", "budget_tokens": 12}}, lambda start: [A, A, END])
    nodes = tree.run()
    assert [(node.position, node.forced_tokens) for node in nodes[1:]] == [(2, (B,)), (5, (B,)), (8, (B,))]
    assert tree.texts() == {0: "sosobutsosobutsosobutsoso"}
    assert [start.max_tokens for start in tree.started[1:]] == [9, 6, 3]


def test_samples_vote_and_stop_when_they_agree() -> None:
    sampling = {"sample": {"answers": 6, "warm_up": 3, "window": 2, "extract": "text", "decided_at": 1.0}}
    tree = StubTree(sampling, number, answers=6)
    nodes = tree.run()
    assert len(nodes) == 3, "the first three agree"
    assert sum(node.chosen for node in nodes) == 1
