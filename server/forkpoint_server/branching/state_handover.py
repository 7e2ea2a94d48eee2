"""The state that a branch takes over from the path that it continues: what its tokens led to, and their records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.state_handover import Past, Path
from forkpoint_policies.kernel.stateful_actions import StatefulActions
from forkpoint_server.requests.tree import Node

from .interface import ChildStart


class NodeRecords:
    """The records of a node's own tokens, read as they arrive, so that each is read once however often it branches."""

    def __init__(self, node: Node, rules: int) -> None:
        self._trace, self._first, self._rules = node.trace, node.first_position, rules
        self._cursor = 0, 0
        self._past = _empty(0, rules)

    def read(self) -> Past:
        """The records of the tokens from the node's first on; without one, a token is not `known`."""
        profile, self._cursor = self._trace.records_since(self._cursor)
        if len(profile.position):
            rows, own = profile.position - self._first, min(profile.fired.shape[1], self._rules)
            self._grow(int(rows.max()) + 1)
            past = self._past
            past.known[rows] = True
            past.entropy[rows], past.confidence[rows] = profile.entropy, profile.confidence
            past.fired[rows, :own] = profile.fired[:, :own]
            past.held[rows, :own], past.placed[rows, :own] = profile.held[:, :own], profile.placed[:, :own]
        for position in self._trace.invalid_positions:  # of rejected drafts
            self._past.known[position - self._first : position - self._first + 1] = False
        return self._past

    def _grow(self, length: int) -> None:
        if length > len(self._past.known):
            larger = _empty(max(64, 2 * length), self._rules)
            _copy(self._past, larger, 0, len(self._past.known))
            self._past = larger


class StateHandover:
    """Works out the states of one tree's branches. Its prompt leaves it at `origin`."""

    def __init__(self, program: Program, origin: ChildStart) -> None:
        self._program, self._origin = program, origin
        self._records: dict[int, NodeRecords] = {}  # by the node's number
        self._paths: dict[int, Path] = {}  # of each node, up to where it branched last
        self._actions = StatefulActions(program)
        self._states: dict[int, tuple[int, NDArray[np.float32]]] = {}  # of actions, likewise: before which position

    def past_of(self, node: Node, position: int, length: int) -> Past | None:
        """The records of the first `length` tokens of a branch that leaves a node at a position.

        Positions up to and including this one must have a record; None where one was lost. The tokens with which the
        branch starts have none, since no request evaluated them.
        """
        path = node.path()
        past = _empty(length, len(self._program.rules))
        for one, until in zip(path, [*(following.position for following in path[1:]), position], strict=True):
            records, first = self.records_of(one), one.first_position
            count = min(until + 1, one.length) - first
            if not records.known[:count].all() or len(records.known) < count:
                return None
            _copy(records, past, first, min(count, length - first))
        last = np.maximum.accumulate(np.where(past.known, np.arange(length), 0))
        past.confidence[:] = past.confidence[last]
        if not self._actions:
            return past
        states = self._states_before(node, position, past)
        return replace(past, actions=self._actions.after(states, past, position, length))

    def _states_before(self, node: Node, position: int, past: Past) -> NDArray[np.float32]:
        """The states of actions before a position of a node, from the records of its path."""
        stored = self._states.get(node.number)
        if stored is not None and stored[0] <= position:
            at, states = stored
        elif node.parent is not None:
            at = min(position, node.position)
            states = self._states_before(node.parent, at, past)
        else:
            at, states = 0, self._actions.first
        states = self._actions.after(states, past, at, position)
        self._states[node.number] = position, states
        return states

    def path_of(self, node: Node, position: int) -> Path:
        """Where the tokens of a node before a position have led."""
        path = self._paths.get(node.number)
        if path is None or path.length > position:
            if node.parent is None:
                path = Path(self._program, self._origin.word_state, self._origin.region)
            else:
                path = self.path_of(node.parent, min(position, node.position))
        path = path.copy().follow(node.tokens(position)[path.length :])
        self._paths[node.number] = path
        return path.copy()

    def records_of(self, node: Node) -> Past:
        """The records of a node's own tokens, from its first on."""
        if node.number not in self._records:
            self._records[node.number] = NodeRecords(node, len(self._program.rules))
        return self._records[node.number].read()


def _empty(length: int, rules: int) -> Past:
    return Past(
        np.zeros(length, np.float32), np.zeros((length, rules), np.bool_), np.zeros(length, np.float32),
        np.zeros((length, rules), np.float32), np.zeros((length, rules), np.float32), np.zeros(length, np.bool_),
    )  # fmt: skip


def _copy(source: Past, target: Past, at: int, count: int) -> None:
    """Copy the first `count` rows to the rows from `at` on."""
    target.entropy[at : at + count], target.confidence[at : at + count] = (
        source.entropy[:count],
        source.confidence[:count],
    )
    target.fired[at : at + count], target.known[at : at + count] = source.fired[:count], source.known[:count]
    target.held[at : at + count], target.placed[at : at + count] = source.held[:count], source.placed[:count]
