"""Which requests of a tree find in the prefix cache what others have computed, where hidden states are changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Action, Program
from forkpoint_policies.spec import parse_policy
from forkpoint_server.branching.cache_groups import CacheGroups
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.branching.state_handover import StateHandover
from forkpoint_server.requests.tree import Node, Tree
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.compile.test_steering import RULE, SERVED
from tests.unit.policies.vocabularies import tokens

from .stub_engine import record

WAIT, SO, BUT = tokens("wait|so|but")
TREE, STEER = 1, 2
"""The rules, a bit each."""


HERE = {"when": {"every": 2}, "do": {"steer": {"vector": "calm", "from": "here"}}}
UNCHANGED = compile_policy(parse_policy({"rules": [{"do": {"branch": {}}}, {"do": {"observe": {}}}]}), SERVED).program


def program(steer: dict[str, Any] = RULE, shadow: bool = False) -> Program:
    return compile_policy(parse_policy({"rules": [{"do": {"branch": {}}}, steer], "shadow": shadow}), SERVED).program


@dataclass
class Growing:
    """A tree of which a test writes the tokens."""

    program: Program = field(default_factory=program)

    def __post_init__(self) -> None:
        self.handover = StateHandover(self.program, ChildStart([], 5, 0, 1, 1))
        self.groups, self.tree = CacheGroups(self.program, self.handover), Tree()
        self.root = self.tree.add(Trace(0, 0), None, 0, (), "answer")

    def write(self, node: Node, *written: tuple[int, int]) -> None:
        """Tokens, and the rules that fire at their positions."""
        for token, fired in written:
            node.trace.add(*record(node.length, 0.5, 0.5, fired, len(self.program.rules)))
            node.trace.tokens.append(token)

    def leave(self, parent: Node, position: int, with_tokens: Sequence[int]) -> tuple[Node, int]:
        """A child, and its group."""
        shared = [*parent.tokens(position), *with_tokens]
        past = self.handover.past_of(parent, position, len(shared))
        assert past is not None
        group = self.groups.of_child(self.tree.nodes, parent, position, shared, past)
        trace = Trace(len(self.tree.nodes), 0, first_position=len(shared))
        return self.tree.add(trace, parent, position, tuple(with_tokens), "answer"), group


def test_branches_share_with_their_trunk_and_with_each_other() -> None:
    tree = Growing()
    tree.write(tree.root, (SO, 0), (WAIT, STEER), (SO, TREE), (BUT, STEER), (SO, TREE | STEER), (SO, 0))
    first, group = tree.leave(tree.root, 2, [BUT])
    assert group == 0
    tree.write(first, (SO, STEER), (SO, TREE), (WAIT, 0))
    for parent, position, with_tokens in ((tree.root, 4, [WAIT]), (first, 4, [BUT]), (tree.root, 2, [WAIT])):
        assert tree.leave(parent, position, with_tokens)[1] == 0
    assert tree.leave(tree.root, 6, [])[1] == 0


def test_a_written_text_that_the_trunk_has_sampled_and_been_steered_in_is_computed_apart() -> None:
    tree = Growing()
    tree.write(tree.root, (SO, 0), (WAIT, 0), (SO, STEER), (BUT, 0), (SO, 0))
    # the same tokens from position 1 on, of which nothing was evaluated at 2
    apart, group = tree.leave(tree.root, 1, [WAIT, SO, BUT])
    assert group == 1
    tree.write(apart, (SO, 0), (WAIT, STEER))
    assert tree.leave(apart, 5, [SO])[1] == 1
    assert tree.leave(tree.root, 3, [SO])[1] == 0
    assert tree.leave(tree.root, 1, [WAIT, BUT, SO])[1] == 0, "another text"
    assert tree.leave(tree.root, 3, [BUT, SO])[1] == 0, "the same text, where nothing fired"


def test_from_here_the_token_before_counts() -> None:
    """As the rule that fires is about it, a text need not have its own token in common."""
    here = Growing(program(HERE))
    assert [rule.action for rule in here.program.rules] == [Action.STEER, Action.TREE]
    here.write(here.root, (SO, 0), (WAIT, 0), (SO, 1), (BUT, 0))
    assert here.leave(here.root, 1, [WAIT, BUT, SO])[1] == 1
    assert here.leave(here.root, 1, [BUT, BUT, SO])[1] == 0


def test_a_trunk_that_samples_what_a_probe_has_written_before_leaves_the_group_with_its_next_child() -> None:
    tree = Growing()
    tree.write(tree.root, (SO, 0), (SO, 0))
    assert tree.leave(tree.root, 1, [WAIT, BUT, WAIT])[1] == 0
    assert tree.leave(tree.root, 2, [WAIT, BUT, WAIT])[1] == 0
    tree.write(tree.root, (WAIT, 0), (BUT, STEER), (WAIT, 0))
    assert tree.leave(tree.root, 4, [SO])[1] == 1
    assert tree.leave(tree.root, 3, [SO])[1] == 0, "it leaves before"


def test_of_two_children_that_decided_otherwise_the_second_ones_child_is_computed_apart() -> None:
    """Chance decided: both have the same tokens."""
    tree = Growing()
    tree.write(tree.root, (SO, 0), (SO, TREE))
    one, first = tree.leave(tree.root, 1, [BUT])
    other, second = tree.leave(tree.root, 1, [BUT])
    assert (first, second) == (0, 0)
    tree.write(one, (SO, STEER), (SO, 0), (SO, TREE))
    tree.write(other, (SO, 0), (SO, 0), (SO, TREE))
    assert tree.leave(one, 4, [WAIT])[1] == 1
    assert tree.leave(one, 4, [BUT])[1] == 1
    assert tree.leave(other, 4, [WAIT])[1] == 2
    assert tree.leave(one, 2, [WAIT])[1] == 0


@pytest.mark.parametrize("own", [program(shadow=True), UNCHANGED])
def test_where_no_state_is_changed_all_share(own: Program) -> None:
    tree = Growing(own)
    tree.write(tree.root, (SO, 0), (WAIT, 0), (SO, STEER), (BUT, 0), (SO, 0))
    assert tree.leave(tree.root, 1, [WAIT, SO, BUT])[1] == 0
