"""The reasoning resumes after the answer, within its budget of tokens."""

from __future__ import annotations

from forkpoint_server.branching.interface import ChildStart
from tests.unit.policies.vocabularies import END, END_THINK, THINK

from .stub_engine import A, B, C, StubTree


def test_continuing_after_the_answer() -> None:
    tree = StubTree({"resume": {"text": "but", "budget_tokens": 12}}, lambda start: [A, A, END])
    nodes = tree.run()
    assert [(node.position, node.forced_tokens) for node in nodes[1:]] == [(2, (B,)), (5, (B,)), (8, (B,))]
    assert tree.texts() == {0: "sosobutsosobutsosobutsoso"}
    assert [start.max_tokens for start in tree.started[1:]] == [9, 6, 3]


def test_the_last_answer_is_returned_rather_than_the_reasoning_after_it() -> None:
    def play(start: ChildStart) -> list[int]:
        return [A, END_THINK, C, END] if start.first else [THINK, A, END]

    tree = StubTree({"resume": {"text": "but", "budget_tokens": 6}}, play)
    nodes = tree.run()
    assert [node.chosen for node in nodes] == [True, False]
    assert [node.ended for node in nodes] == ["stop", "stop"]
