"""The controller of `branch`: further answers begin where the rule fires, and one is chosen or all are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from forkpoint_policies.spec import MAX_WINDOW, Branch
from forkpoint_server.requests.tree import Node
from forkpoint_server.traces.trace import Alternatives

from .candidate import leaf_of
from .choice_output import whole_characters
from .runner import Grown, TreeRunner
from .seeds import derived_seed
from .voting import Leaf, choose, decided


@dataclass
class BranchController:
    """Grows the tree of a request at its forks, as a `branch` says.

    `by_chance` is the placebo of a rule that goes by the position alone: as many forks of each answer, anywhere in it, once its
    length is known.
    """

    growth: TreeRunner
    branch: Branch
    by_chance: bool = False

    def __post_init__(self) -> None:
        self.together = self.branch.select != "all"
        self.growth.keeps_alternatives = self.by_chance
        self._to_place: dict[int, int] = {}  # forks, by the answer's number
        self._whole = whole_characters(self.growth.intervention.model.vocabulary)

    def begin(self) -> None:
        self.growth.begin_root(self.growth.seed)

    def reached(self, grown: Grown, position: int) -> None:
        if self.by_chance:
            self._to_place[grown.node.number] = self._to_place.get(grown.node.number, 0) + 1
        else:
            self._fork(grown, position)

    def _fork(self, grown: Grown, position: int) -> None:
        node, growth = grown.node, self.growth
        found, width = node.trace.alternatives(position), width_at(node, position, self.branch, growth)
        if not width or found is None:
            return
        intervention, before = growth.intervention, node.tokens(position)
        vocabulary, end = intervention.model.vocabulary, intervention.compiled.program.reasoning_end

        def possible(token: int) -> bool:
            """Whether an answer can go on after this token: one that ends it is no other way to go on."""
            ends = token in vocabulary.silent and token != end
            return not ends and token not in (growth.params.stop_token_ids or ()) and self._whole([*before, token])

        seed = derived_seed(growth.seed, position, node.number)
        drawn = node.token_at(position)
        if self.by_chance and all(
            one < 0 or token == drawn for token, one in zip(found.tokens, found.signed, strict=True)
        ):
            found = replace(
                found, signed=found.probabilities
            )  # where the policy leaves the likeliest only, as `cot-branch` does
        chosen = candidates(self.branch, found, drawn, width, seed, intervention.connectors.family, possible)
        probabilities = dict(zip(found.tokens, found.probabilities, strict=True))
        for token in chosen:
            growth.begin(grown, position, [token], probability=probabilities[token])

    def advanced(self, grown: Grown) -> None:
        """End all but the trunk when the tree has cost as much as it may."""
        if is_spent(self.branch, self.growth):
            for one in self.growth.running:
                if one.node.parent is not None:
                    self.growth.stop(one, "length")

    def ended(self, grown: Grown) -> None:
        growth, node = self.growth, grown.node
        places = np.arange(node.begun, node.length)
        random = np.random.default_rng(derived_seed(grown.seed, -2, 0))
        for position in sorted(random.permutation(places)[: self._to_place.pop(node.number, 0)].tolist()):
            self._fork(grown, position)
        more = growth.limits.answers - growth.tree.answers
        if (
            self.together
            and growth.running
            and decided(self._leaves(), self.branch.select, self.branch.decided_at, more)
        ):
            for one in growth.running:
                growth.stop(one, "outvoted")
        if self.branch.fill == "sample" and not growth.running and not is_spent(self.branch, growth):
            for number in range(growth.tree.answers, growth.limits.answers):
                growth.begin_root(derived_seed(growth.seed, -1, number))

    def certain(self) -> None:
        """Which answer it will be is known at the end."""

    def chosen(self) -> Sequence[Grown]:
        if not self.together:
            return self.growth.grown
        number = choose(self._leaves(), self.branch.select)
        return [self.growth.grown[number or 0]]

    def _leaves(self) -> list[Leaf]:
        return [
            leaf_of(self.growth, grown, self.branch.extract, self.branch.select, MAX_WINDOW)
            for grown in self.growth.grown
        ]


def is_spent(branch: Branch, growth: TreeRunner) -> bool:
    """Whether the tree's answers have all the tokens that they may have together."""
    return branch.budget_tokens is not None and growth.tree.generated >= branch.budget_tokens


def width_at(node: Node, position: int, branch: Branch, growth: TreeRunner) -> int:
    """How many answers may begin at a fork of this one, as the policy says and as far as there is room."""
    tree, last = growth.tree, node.last_fork()
    if last is not None and position - last < branch.min_gap:
        return 0
    if node.depth >= branch.depth or any(one.ended == "outvoted" for one in tree.nodes):
        return 0
    if is_spent(branch, growth):
        return 0
    return max(0, min(branch.width, growth.limits.answers - tree.answers))


def candidates(
    branch: Branch, found: Alternatives, drawn: int, width: int, seed: int, connectors: Callable[[int], str | None],
    possible: Callable[[int], bool],
) -> list[int]:  # fmt: skip
    """The tokens to go on with at a fork, in place of the drawn one: as the policy chooses among those that could have been drawn.

    `sampled` draws without replacement, in proportion to the probabilities; `connectors` tells a token's family.
    """
    kept = [
        (token, probability)
        for token, probability in zip(found.tokens, found.signed, strict=True)
        if token != drawn and probability > 0 and possible(token)
    ]
    if not isinstance(branch.alternatives, str):
        kept = [one for one in kept if connectors(one[0]) in branch.alternatives.connectors]
    if branch.alternatives != "sampled" or len(kept) <= width:
        return [token for token, _ in kept[:width]]
    weights = np.array([probability for _, probability in kept])
    places = np.random.default_rng(seed & (2**63 - 1)).choice(
        len(kept), width, replace=False, p=weights / weights.sum()
    )
    return [kept[place][0] for place in sorted(places.tolist())]
