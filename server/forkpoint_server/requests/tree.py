"""The fork tree of one request: its answers, which share their beginnings, and where another one may begin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from forkpoint_server.traces.trace import Trace

Ending = Literal["stop", "length", "abort", "error", "outvoted", "unsure", "exit"]
"""How an answer ended: by itself, at its longest or the tree's, with its client, by an error; or stopped: it could no longer be
chosen, was less sure than others, or went on from an earlier token."""

Kind = Literal["answer", "probe"]


@dataclass(eq=False)
class Node:
    """An answer from where it left its parent's: `given` stands at `position` in place of the parent's own tokens. A root has none.

    `trace` has its own tokens, those after `given`; positions are counted from the beginning of the answer. A probe tries out what
    the parent would answer, and is no answer itself.
    """

    number: int
    trace: Trace
    parent: Node | None = None
    position: int = 0
    given: tuple[int, ...] = ()
    entropy: float | None = None
    kind: Kind = "answer"
    depth: int = 0
    forks: list[int] = field(default_factory=list)  # the positions at which answers left this one
    finish_reason: str | None = None
    ended: Ending | None = None
    ended_at: int | None = None  # the how-manieth to end
    chosen: bool = False
    checked_until: int = 0  # positions before this one were looked at
    delay: int | None = None  # tokens that the parent drew from the fork on until this one's first was there

    @property
    def first_position(self) -> int:
        """The position of its first own token."""
        return self.position + len(self.given)

    @property
    def length(self) -> int:
        """The tokens of the whole answer so far."""
        return self.first_position + len(self.trace.tokens)

    def token_at(self, position: int) -> int:
        """The token of this answer at a position that it has reached."""
        one = self
        while position < one.position and one.parent is not None:
            one = one.parent
        own = position - one.position
        return one.given[own] if own < len(one.given) else one.trace.tokens[own - len(one.given)]

    def path(self) -> list[Node]:
        """From the trunk to here."""
        found = [self]
        while (parent := found[-1].parent) is not None:
            found.append(parent)
        return found[::-1]

    def tokens(self, until: int | None = None) -> list[int]:
        """The tokens of the answer, or the first so many of them."""
        found: list[int] = []
        for one in self.path():
            del found[one.position :]
            found += one.given
            found += one.trace.tokens
        return found if until is None else found[:until]

    def last_fork(self) -> int | None:
        """Where, on the way to here, a path was last left: the beginning does not count."""
        left = [*self.forks, *([self.position] if self.parent is not None else [])]
        return max(left, default=None)


@dataclass
class Tree:
    """The nodes in the order of their beginnings. `refused` counts those that a limit of the server did not let begin."""

    nodes: list[Node] = field(default_factory=list)
    refused: int = 0

    @property
    def generated(self) -> int:
        """The tokens of all answers, each shared one once."""
        return sum(len(node.given) + len(node.trace.tokens) for node in self.nodes)

    @property
    def shared(self) -> int:
        """The tokens that others did not have to generate again."""
        return sum(node.position for node in self.nodes if node.kind == "answer")

    @property
    def answers(self) -> int:
        """How many answers have begun."""
        return sum(node.kind == "answer" for node in self.nodes)

    @property
    def saved(self) -> int:
        """How many answers were stopped before their end, because it could no longer matter."""
        return sum(node.ended in ("outvoted", "unsure") for node in self.nodes)

    def begin(self, trace: Trace, parent: Node | None, position: int, given: tuple[int, ...], kind: Kind) -> Node:
        """Add an answer or a probe that leaves another one at a position, or an answer from the beginning."""
        entropy = parent.trace.forks.get(position) if parent is not None else None
        depth = parent.depth + 1 if parent is not None else 0
        node = Node(
            len(self.nodes), trace, parent, position, given, entropy, kind, depth, checked_until=position + len(given)
        )
        self.nodes.append(node)
        if parent is not None and kind == "answer" and position not in parent.forks:
            parent.forks.append(position)
        return node
