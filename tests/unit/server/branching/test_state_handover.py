"""The state that a branch takes over is that of its whole path, wherever and in whichever order branches start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.kernel.state_handover import Path
from forkpoint_policies.kernel.stateful_actions import StatefulActions
from forkpoint_policies.spec import parse_policy
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.branching.state_handover import StateHandover
from forkpoint_server.requests.tree import Node
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.vocabularies import END_THINK, TARGET, tokens

from .stub_engine import record

WAIT, SO, BUT = tokens("Wait|so|but")
POLICY = parse_policy(
    {
        "rules": [
            {"do": {"probe": {"agreement": 2}}},
            {"when": {"since_connector_below": 3, "words": ["wait"]}, "do": {"temperature": 0.5}},
        ]
    }
)
PROGRAM = compile_policy(POLICY, TARGET).program
ORIGIN = ChildStart([], 5, 0, 1, 1)


def add_tokens(trace: Trace, tokens_added: list[int]) -> None:
    for token in tokens_added:
        position = trace.first_position + len(trace.tokens)
        trace.add(*record(position, 0.5 + position, 0.5, position % 2, len(PROGRAM.rules)))
        trace.tokens.append(token)


@given(st.lists(st.integers(0, 11), min_size=1, max_size=6))
def test_a_path_is_that_of_all_its_tokens(positions: list[int]) -> None:
    root = Node(0, Trace(1, 0))
    add_tokens(root.trace, [WAIT, SO, BUT, WAIT, SO, SO])
    child = Node(1, Trace(2, 1, first_position=5), root, 4, (BUT,))
    add_tokens(child.trace, [SO, WAIT, END_THINK, SO, SO, BUT, SO])
    handover = StateHandover(PROGRAM, ORIGIN)
    for position in positions:
        for node in (root, child):
            if position >= node.length:
                continue
            whole = Path(PROGRAM, 0, True).follow(node.tokens(position))
            found = handover.path_of(node, position)
            found.copy().follow([WAIT, BUT])  # a branch goes on by itself
            assert (found.length, found.word_state, found.region) == (
                whole.length, whole.word_state, whole.region,
            )  # fmt: skip
            assert (found.connector, found.previous) == (whole.connector, whole.previous)


def test_records_are_those_of_the_path_as_they_arrive() -> None:
    root = Node(0, Trace(1, 0))
    add_tokens(root.trace, [SO] * 3)
    handover = StateHandover(PROGRAM, ORIGIN)
    first = handover.past_of(root, 2, 3)
    add_tokens(root.trace, [SO] * 100)
    second = handover.past_of(root, 90, 95)
    assert first is not None
    assert second is not None
    assert first.entropy.tolist() == [0.5, 1.5, 2.5]
    assert np.array_equal(second.entropy[:91], 0.5 + np.arange(91))
    assert second.known.tolist() == [True] * 91 + [False] * 4
    child = Node(1, Trace(2, 1, first_position=5), root, 4, (BUT,))
    add_tokens(child.trace, [SO] * 3)
    third = handover.past_of(child, 7, 9)
    assert third is not None
    assert third.entropy[[3, 5, 7]].tolist() == [3.5, 5.5, 7.5]
    assert third.fired[:, 0].tolist() == [False, True, False, True, False, True, False, True, False]


@pytest.mark.parametrize("lost", [0, 2])
def test_a_lost_record_leaves_the_state_unknown(lost: int) -> None:
    root = Node(0, Trace(1, 0))
    for position in range(4):
        if position != lost:
            root.trace.add(*record(position, 1.0, 0.5, 0, len(PROGRAM.rules)))
        root.trace.tokens.append(SO)
    handover = StateHandover(PROGRAM, ORIGIN)
    assert (handover.past_of(root, 1, 2) is None) == (lost < 2)
    assert handover.past_of(root, 3, 4) is None


SIGMA = {"adaptive_top_n_sigma": {"sure": 2.0, "unsure": 0.5, "tokens": 3}}
STATEFUL = compile_policy(
    parse_policy({"rules": [{"do": {"branch": {}}}, {"when": {"entropy_above": 4.0}, "do": SIGMA}]}), TARGET
).program


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 11)), min_size=1, max_size=6))
def test_states_of_actions_are_those_of_the_path_in_any_order(branches: list[tuple[bool, int]]) -> None:
    root = Node(0, Trace(1, 0))
    add_tokens(root.trace, [WAIT, SO, BUT, WAIT, SO, SO])
    child = Node(1, Trace(2, 1, first_position=5), root, 4, (BUT,))
    add_tokens(child.trace, [SO, WAIT, END_THINK, SO, SO, BUT, SO])
    handover, actions = StateHandover(STATEFUL, ORIGIN), StatefulActions(STATEFUL)
    [stateful] = [index for index, rule in enumerate(STATEFUL.rules) if rule.declared]
    for of_child, position in branches:
        node = child if of_child else root
        if position >= len(node.tokens(node.length)):
            continue
        past = handover.past_of(node, position, position + 3)  # two tokens more, which nothing evaluated
        if past is None:
            continue
        assert past.actions is not None
        assert np.array_equal(past.actions, actions.after(actions.first, past, 0, position + 1))
        counted, mean = past.actions[stateful, :2]
        assert counted == min(position + 1, 3)
        assert 0.5 <= mean <= 0.5 + position
