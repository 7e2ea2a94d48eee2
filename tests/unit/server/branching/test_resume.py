"""The reasoning resumes after the answer, within its budget of tokens."""

from __future__ import annotations

from tests.unit.policies.vocabularies import END

from .stub_engine import A, B, StubTree


def test_continuing_after_the_answer() -> None:
    tree = StubTree({"resume": {"text": "but", "budget_tokens": 12}}, lambda start: [A, A, END])
    nodes = tree.run()
    assert [(node.position, node.forced_tokens) for node in nodes[1:]] == [(2, (B,)), (5, (B,)), (8, (B,))]
    assert tree.texts() == {0: "sosobutsosobutsosobutsoso"}
    assert [start.max_tokens for start in tree.started[1:]] == [9, 6, 3]
