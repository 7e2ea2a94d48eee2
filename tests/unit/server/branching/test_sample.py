"""Sampled answers vote, and no more are sampled once they agree."""

from __future__ import annotations

from forkpoint_server.branching.interface import ChildStart
from tests.unit.policies.vocabularies import END, END_THINK

from .stub_engine import A, C, StubTree, number


def test_samples_vote_and_stop_when_they_agree() -> None:
    sampling = {"sample": {"answers": 6, "warm_up": 3, "window": 2, "extract": "text", "decided_at": 1.0}}
    tree = StubTree(sampling, number, answers=6)
    nodes = tree.run()
    assert len(nodes) == 3, "the first three agree"
    assert sum(node.chosen for node in nodes) == 1


def test_samples_cut_in_their_reasoning_have_no_vote() -> None:
    """The sure ones are cut, and only an unsure one has an answer: it is returned."""
    seeds: list[int] = []

    def play(start: ChildStart) -> list[int]:
        seeds.append(start.seed)
        return [A, END_THINK, C, END] if len(seeds) == 2 else [A] * 6 + [END]

    tree = StubTree(
        {"sample": {"answers": 4, "warm_up": 4, "window": 2, "keep_percent": 50.0}},
        play,
        likely=lambda start: (0.4, 0.3, 0.3) if seeds.index(start.seed) == 1 else (0.99, 0.005, 0.005),
    )
    assert [node.chosen for node in tree.run()] == [False, True, False, False]


def test_samples_without_room_are_reported() -> None:
    tree = StubTree({"sample": {"answers": 6, "warm_up": 6, "window": 2}}, number, answers=6, max_running=3)
    tree.runner.tree.num_requested = None
    tree.run()
    assert tree.context.warnings == ("3 answers or trial answers could not start",)
