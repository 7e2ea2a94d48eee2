"""A tree stays within the engine's capacity, however its requests end. A stub runs them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forkpoint_server.branching.controllers import controller_of
from forkpoint_server.branching.interface import ChildStart
from tests.unit.policies.vocabularies import END

from .scripted_answers import sampling
from .stub_engine import A, B, StubTree, rest


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


def test_what_a_failure_logs_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    """The request's id is the client's."""
    failing = {"branch": {"depth": 1}}
    StubTree(failing, lambda start: RuntimeError("no\nERROR") if start.tokens == [B] else rest(start)).run()
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == r"a branch of 'it\nERROR' ended with RuntimeError: 'no\nERROR'"


def test_a_tree_reports_what_the_engine_says_of_its_first_request() -> None:
    tree = StubTree({"branch": {"select": "majority", "depth": 1}}, rest, answers=3)
    tree.run()
    found: Any = tree.outputs_sent[-1]
    assert (found.metrics, found.kv_transfer_params) == ("measured", {"remote": 1})


def test_a_failure_of_the_first_answer_fails_the_request() -> None:
    tree = StubTree({"branch": {}}, lambda start: rest(start) if start.tokens else RuntimeError("no"))
    with pytest.raises(RuntimeError, match="no"):
        tree.run()


def test_a_full_engine_runs_fewer_branches() -> None:
    tree = StubTree({"branch": {"fill": "none", "depth": 1}}, rest, answers=6, max_running=2)
    nodes = tree.run()
    assert 1 < len(nodes) < 6
    assert tree.runner.tree.num_refused > 0


def test_no_branch_starts_after_a_lost_record() -> None:
    tree = StubTree({"branch": {"fill": "none", "depth": 1}}, rest, answers=6, lost=2)
    nodes = tree.run()
    assert [node.position for node in nodes[1:]] == [0, 1]
    assert tree.runner.tree.num_refused > 0


@pytest.mark.parametrize(("draft", "positions"), [(A, [0, 1, 2, 3]), (B, [0, 1])])
def test_no_branch_starts_where_a_rejected_draft_was_evaluated(draft: int, positions: list[int]) -> None:
    """Nor after it: the token that was sampled there has no record, so the state of a branch would be unknown."""
    tree = StubTree({"branch": {"fill": "none", "depth": 1}}, rest, answers=5, drafts={2: draft})
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


@pytest.mark.parametrize(
    ("extract", "said"),
    [("last_number", ["2", "0.5", "3"]), ("math", ["2", "0.5", "3"]), ("text", ["2", "1/2", "so 3"])],
)
def test_each_answer_is_read_once_it_has_ended(extract: str, said: list[str]) -> None:
    action = {"answers": 4, "select": "majority", "decided_at": None, "extract": extract}
    tree = sampling(action, [(3, "2"), (1, "1/2"), (2, "so 3"), (1, None)])
    nodes = tree.run()
    assert tree.runner.tree.extract == extract
    assert [node.answer for node in nodes[:3]] == said


def test_answers_that_are_equal_as_mathematics_vote_together() -> None:
    action = {"answers": 5, "select": "majority", "extract": "math"}
    tree = sampling(action, [(1, "3"), (2, "1/2"), (3, "3"), (4, "0.50"), (5, ".5")])
    nodes = tree.run()
    assert [node.answer for node in nodes] == ["3", "0.5", "3", "0.5", "0.5"]
    assert next(node.answer for node in nodes if node.chosen) == "0.5"


def test_an_answer_that_was_cut_says_nothing() -> None:
    tree = StubTree({"branch": {"depth": 1}}, lambda start: [A] * 60, answers=1, longest=10)
    assert [node.answer for node in tree.run()] == [None]


def test_the_token_that_ends_an_answer_is_no_part_of_what_it_says() -> None:
    tree = sampling({"answers": 1, "select": "majority", "extract": "text"}, [(2, "so 3")])
    tree.params.skip_special_tokens = False  # as vLLM has it for its reasoning parsers
    assert [node.answer for node in tree.run()] == ["so 3"]
