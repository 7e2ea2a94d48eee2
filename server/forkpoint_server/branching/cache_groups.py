"""Which requests of a tree may find in the prefix cache what others of it computed, where hidden states are changed.

vLLM stores what it computed by tokens. Of two answers with the same tokens, a rule may have fired in one only: one was
written by the policy where the other was sampled, or chance decided. A child that could find the other's is put into
another group, whose first request computes its prompt again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.program import ON_STATES, Program
from forkpoint_policies.kernel.state_handover import Past, changes_of
from forkpoint_server.requests.tree import Node

from .state_handover import StateHandover


class CacheGroups:
    """The groups of one tree: that of its roots is 0, and a child is in its parent's if nothing is against it."""

    def __init__(self, program: Program, handover: StateHandover) -> None:
        self._program, self._handover = program, handover
        changing = {number: rule for number, rule in enumerate(program.rules) if rule.action in ON_STATES}
        self._is_needed = bool(changing) and not program.shadow
        self._on_token_before = sum(1 << number for number, rule in changing.items() if rule.from_here)
        self._groups: dict[int, int] = {}  # by the node's number, of children

    def of_child(self, nodes: Sequence[Node], parent: Node, position: int, tokens: Sequence[int], past: Past) -> int:
        """The group of the next node: it leaves `parent` at a position and starts with these tokens of the whole
        answer, of which `past` are the records."""
        if not self._is_needed:
            return 0
        changes = changes_of(past.fired, self._program)
        others = {self._of(node) for node in nodes if self._differs(node, parent, position, tokens, changes)}
        group = next(one for one in chain((self._of(parent),), count()) if one not in others)
        self._groups[len(nodes)] = group
        return group

    def _of(self, node: Node) -> int:
        return self._groups.get(node.number, 0)

    def _differs(
        self, other: Node, parent: Node, position: int, tokens: Sequence[int], changes: NDArray[np.int32]
    ) -> bool:
        """Whether a node has some of the first tokens, too, but changes states elsewhere among them."""
        for at in range(_parting(parent, position, other), min(len(tokens), other.length)):
            theirs = self._changes_at(other, at)
            unlike = -1 if theirs is None else theirs ^ int(changes[at])
            if unlike & self._on_token_before:
                return True
            if tokens[at] != other.token_at(at):
                return False
            if unlike:
                return True
        return False

    def _changes_at(self, node: Node, position: int) -> int | None:
        """The rules that changed states at a position of a node; None where its record is still to come."""
        while position < node.position and node.parent is not None:
            node = node.parent
        if position >= node.first_position or node.parent is None:
            return self._recorded(node, position)
        # of the tokens with which a node starts, its parent has evaluated the position of the first one
        return (self._recorded(node.parent, position) or 0) if position == node.position else 0

    def _recorded(self, node: Node, position: int) -> int | None:
        own = position - node.first_position
        if own < 0:
            return self._changes_at(node, position)
        records = self._handover.records_of(node)
        if own >= len(records.known) or not records.known[own]:
            return None
        return int(changes_of(records.fired[own : own + 1], self._program)[0])


def _parting(parent: Node, position: int, other: Node) -> int:
    """The position at which a child that leaves `parent` at a position, and another node, stop sharing records."""
    one, two = parent.path(), other.path()
    until_one = [*(node.position for node in one[1:]), position]
    until_two = [*(node.position for node in two[1:]), other.length]
    common = sum(1 for a, b in zip(one, two, strict=False) if a is b)
    return min(until_one[common - 1], until_two[common - 1]) if common else 0
