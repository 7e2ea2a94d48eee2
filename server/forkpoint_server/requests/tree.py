"""The tree of one request: its answers, which share their first tokens, and the probes of what one would answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from forkpoint_policies.compile.regions import RegionReader
from forkpoint_server.traces.trace import Trace

Ending = Literal["stop", "length", "abort", "error", "outvoted", "unsure", "exit"]
"""How an answer ended: complete, at its or the tree's limit of tokens, with its client's disconnection, or by an error.
Or it was stopped: it could no longer be chosen, was less confident than others, or was replaced from an earlier one."""

Kind = Literal["answer", "probe"]
MAX_ANSWER = 500
"""Characters that are shown of what an answer says."""


@dataclass(eq=False)
class Node:
    """An answer from where it left its parent's: `forced_tokens` replace the parent's own tokens at `position`.

    The root has no parent and no forced tokens. `trace` has the tokens after the forced ones. Positions count from the
    first token of the whole answer. A probe is not an answer: it measures what the parent would answer.
    """

    number: int
    trace: Trace
    parent: Node | None = None
    position: int = 0
    forced_tokens: tuple[int, ...] = ()
    entropy: float | None = None  # nats, of the parent at `position`
    kind: Kind = "answer"
    depth: int = 0
    forks: list[int] = field(default_factory=list)  # the positions at which answers left this one
    finish_reason: str | None = None
    ended: Ending | None = None
    end_order: int | None = None  # 0 for the first node of the tree to end
    answer: str | None = None  # what it says, once it has ended with an answer that can be read
    chosen: bool = False
    choice: int | None = None  # its index among the choices of the response
    checked_until: int = 0  # positions before this one were checked for forks
    delay: int | None = None  # tokens that the parent sampled between the fork and this node's first token

    @property
    def first_position(self) -> int:
        """The position of its first own token."""
        return self.position + len(self.forced_tokens)

    @property
    def length(self) -> int:
        """The number of tokens of the whole answer so far."""
        return self.first_position + len(self.trace.tokens)

    def token_at(self, position: int) -> int:
        """The token of this answer at a position that it has reached."""
        node = self
        while position < node.position and node.parent is not None:
            node = node.parent
        own, forced = position - node.position, node.forced_tokens
        return forced[own] if own < len(forced) else node.trace.tokens[own - len(forced)]

    def path(self) -> list[Node]:
        """The nodes from the root to this one."""
        nodes = [self]
        while (parent := nodes[-1].parent) is not None:
            nodes.append(parent)
        return nodes[::-1]

    def tokens(self, until: int | None = None) -> list[int]:
        """The tokens of the whole answer, or those before the position `until`."""
        tokens: list[int] = []
        for node in self.path():
            del tokens[node.position :]
            tokens += node.forced_tokens
            tokens += node.trace.tokens
        return tokens if until is None else tokens[:until]

    @property
    def regions(self) -> RegionReader:
        """The regions of the whole answer so far."""
        root = self.path()[0].trace
        return root.regions_of(self.tokens())

    def last_fork(self) -> int | None:
        """The last position of this answer at which one left another; None if there is none."""
        return max([*self.forks, *([self.position] if self.parent is not None else [])], default=None)


@dataclass
class Tree:
    """The nodes in the order in which they started. `num_refused` counts those that the server had no capacity for.

    `num_requested` is the request's number of choices, where all answers are choices. `extract` names the extractor of
    what they say.
    """

    nodes: list[Node] = field(default_factory=list)
    num_refused: int = 0
    num_requested: int | None = None
    extract: str | None = None

    @property
    def num_generated_tokens(self) -> int:
        """The tokens of all nodes, shared ones counted once."""
        return sum(len(node.forced_tokens) + len(node.trace.tokens) for node in self.nodes)

    @property
    def num_shared_tokens(self) -> int:
        """The tokens that answers took over from others instead of generating them."""
        return sum(node.position for node in self.nodes if node.kind == "answer")

    @property
    def num_answers(self) -> int:
        """How many answers have started."""
        return sum(node.kind == "answer" for node in self.nodes)

    @property
    def has_fewer_choices(self) -> bool:
        """Whether it has fewer answers than the request has choices."""
        return self.num_requested is not None and self.num_answers < self.num_requested

    @property
    def num_stopped(self) -> int:
        """How many answers were stopped because they could no longer be chosen or were unsure."""
        return sum(node.ended in ("outvoted", "unsure") for node in self.nodes)

    def add(self, trace: Trace, parent: Node | None, position: int, forced_tokens: tuple[int, ...], kind: Kind) -> Node:
        """Add an answer or a probe that leaves its parent at a position, or an answer from the prompt on."""
        node = Node(
            number=len(self.nodes),
            trace=trace,
            parent=parent,
            position=position,
            forced_tokens=forced_tokens,
            entropy=parent.trace.forks.get(position) if parent is not None else None,
            kind=kind,
            depth=parent.depth + 1 if parent is not None else 0,
            checked_until=position + len(forced_tokens),
        )
        self.nodes.append(node)
        if parent is not None and kind == "answer" and position not in parent.forks:
            parent.forks.append(position)
        return node


def shortened(answer: str | None) -> str | None:
    """What an answer says, as shown: an extractor may find a long text, and the trace has its tokens already."""
    return answer if answer is None or len(answer) <= MAX_ANSWER else f"{answer[: MAX_ANSWER - 1]}…"
