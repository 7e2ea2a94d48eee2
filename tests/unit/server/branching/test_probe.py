"""A probe tries the answer, and ends the reasoning if it is certain."""

from __future__ import annotations

from tests.unit.policies.vocabularies import END_THINK

from .stub_engine import StubTree, rest


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
