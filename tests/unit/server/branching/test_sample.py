"""Sampled answers vote, and no more are sampled once they agree."""

from __future__ import annotations

from .stub_engine import StubTree, number


def test_samples_vote_and_stop_when_they_agree() -> None:
    sampling = {"sample": {"answers": 6, "warm_up": 3, "window": 2, "extract": "text", "decided_at": 1.0}}
    tree = StubTree(sampling, number, answers=6)
    nodes = tree.run()
    assert len(nodes) == 3, "the first three agree"
    assert sum(node.chosen for node in nodes) == 1
