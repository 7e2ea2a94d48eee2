"""The controller of `branch`: further answers start where the rule fires, and one is selected or all are returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from forkpoint_policies.spec import MAX_WINDOW, Branch
from forkpoint_server.requests.tree import Node, Tree
from forkpoint_server.traces.likeliest import Alternatives

from .candidate import candidate_of
from .choice_output import ends_at_character
from .interface import Choice, TreeControl
from .seeds import derived_seed
from .top_entropy import top_entropy
from .voting import Candidate, choose, decided, elect, first_ended


@dataclass
class BranchController:
    """Branches the answers of a request at their forks.

    `by_chance` is the placebo of a rule whose forks the server finds: as many forks in each answer, at random
    positions, once its length is known. Of another, the kernel fires at random, and an `is_placebo` branches wherever
    it does.
    """

    runner: TreeControl
    action: Branch
    by_chance: bool = False
    is_placebo: bool = False
    returns_one: bool = field(init=False)
    _num_forks: dict[int, int] = field(default_factory=dict)  # of the placebo: forks to place, by the answer's number

    def __post_init__(self) -> None:
        self.returns_one = self.action.select != "all"
        self.runner.stores_all_alternatives = self.by_chance

    def start(self) -> None:
        self.runner.start_root(self.runner.request.seed)

    def on_fork(self, choice: Choice, position: int) -> None:
        if self.by_chance:
            alternatives = choice.node.trace.alternatives(position)
            if alternatives is None or self._is_open(alternatives):
                self._num_forks[choice.node.number] = self._num_forks.get(choice.node.number, 0) + 1
        else:
            self._fork(choice, position)

    def on_tokens(self, choice: Choice) -> None:
        """End all answers but the trunk once the tree has spent its budget."""
        if is_spent(self.action, self.runner.tree):
            for other in self.runner.running:
                if other.node.parent is not None:
                    self.runner.stop(other, "length")

    def on_end(self, choice: Choice) -> None:
        runner, node = self.runner, choice.node

        # the placebo's forks, now that the length is known
        own_positions = np.arange(node.first_position, node.length)
        random = np.random.default_rng(derived_seed(choice.seed, -2, 0))
        for position in sorted(random.permutation(own_positions)[: self._num_forks.pop(node.number, 0)].tolist()):
            self._fork(choice, position)

        # the others, if they can no longer change the selection
        num_left = runner.request.max_answers - runner.tree.num_answers
        if self.returns_one and runner.running and self._is_decided(num_left):
            for other in runner.running:
                runner.stop(other, "outvoted")

        # independent answers in place of branches that never started
        if self.action.fills and not runner.running and not is_spent(self.action, runner.tree):
            self._fill()

    def settled(self) -> None:
        """The selection is known at the end."""

    def select(self) -> Sequence[Choice]:
        if not self.returns_one:
            return self.runner.choices
        candidates, number = self._candidates(), None
        if self.action.select == "first" and self.action.first > 1:
            number = elect(first_ended(candidates, self.action.first))
        if number is None:
            number = choose(candidates, self.action.select)
        return [self.runner.choices[number or 0]]

    def _fill(self) -> None:
        """Sample the choices that branching did not reach: as many as there is room for at once, but at least one."""
        runner = self.runner
        if any(node.ended == "abort" for node in runner.tree.nodes if node.parent is None):
            return  # the request was aborted in the engine
        first = runner.tree.num_answers
        for number in range(first, runner.request.max_answers):
            seed = derived_seed(runner.request.seed, -1, number)
            if runner.start_root(seed, needs_room=number > first) is None:
                return  # the next one that ends makes room

    def _fork(self, choice: Choice, position: int) -> None:
        """Start further answers at a position, as many as the policy and the limits allow."""
        node, request = choice.node, self.runner.request
        alternatives = node.trace.alternatives(position)
        width = width_at(node, position, self.action, self.runner.tree, request.max_answers)
        if not width or alternatives is None or not (self.is_placebo or self._is_open(alternatives)):
            return
        sampled = node.token_at(position)
        if (self.by_chance or request.takes_likeliest) and all(
            signed < 0 or token == sampled
            for token, signed in zip(alternatives.tokens, alternatives.signed, strict=True)
        ):
            # a temperature of 0 leaves only the likeliest token: what it removed can start a branch
            alternatives = replace(alternatives, signed=alternatives.probabilities)
        before = node.tokens(position)
        tokens = branch_tokens(
            self.action,
            alternatives,
            sampled,
            width,
            derived_seed(request.seed, position, node.number),
            request.connector_family,
            lambda token: self._can_continue(before, token),
        )
        probabilities = dict(zip(alternatives.tokens, alternatives.probabilities, strict=True))
        for token in tokens:
            self.runner.start_child(choice, position, [token], probability=probabilities[token])

    def _is_open(self, alternatives: Alternatives) -> bool:
        """Whether the likeliest tokens alone are as uncertain as the action asks."""
        least = self.action.top_entropy_above
        return least is None or top_entropy(alternatives.probabilities[: self.action.top_entropy_of]) > least

    def _can_continue(self, before: Sequence[int], token: int) -> bool:
        """Whether an answer can start so: the token does not end it, split a character, or begin a banned word."""
        request = self.runner.request
        if token in (request.params.stop_token_ids or ()):
            return False
        if token in request.vocabulary.silent and token not in request.regions.reasoning_end:
            return False
        return ends_at_character([*before, token], request.vocabulary) and not request.rules_out(before, token)

    def _is_decided(self, num_left: int) -> bool:
        action = self.action
        return decided(self._candidates(), action.select, action.decided_at, num_left, action.first)

    def _candidates(self) -> list[Candidate]:
        action = self.action
        return [
            candidate_of(self.runner.request, choice, action.extract, action.select, MAX_WINDOW)
            for choice in self.runner.choices
        ]


def is_spent(action: Branch, tree: Tree) -> bool:
    """Whether the tree's answers have generated all the tokens of its budget."""
    return action.budget_tokens is not None and tree.num_generated_tokens >= action.budget_tokens


def width_at(node: Node, position: int, action: Branch, tree: Tree, max_answers: int) -> int:
    """How many answers may start at a fork of this one, by the policy and the limit of answers."""
    last = node.last_fork()
    if last is not None and position - last < action.min_gap:
        return 0
    if node.depth >= action.depth or any(other.ended == "outvoted" for other in tree.nodes):
        return 0
    if is_spent(action, tree):
        return 0
    return max(0, min(action.width, max_answers - tree.num_answers))


def branch_tokens(
    action: Branch, alternatives: Alternatives, sampled: int, width: int, seed: int,
    family: Callable[[int], str | None], can_continue: Callable[[int], bool],
) -> list[int]:  # fmt: skip
    """The tokens to continue with at a fork in place of the `sampled` one, at most `width`, the likeliest first.

    They are the likeliest, the likeliest connectors of some families, or sampled without replacement in proportion to
    their probabilities. `family` returns the connector family of a token.
    """
    possible = [
        (token, probability)
        for token, probability in zip(alternatives.tokens, alternatives.signed, strict=True)
        if token != sampled and probability > 0 and can_continue(token)
    ]
    if not isinstance(action.alternatives, str):
        possible = [one for one in possible if family(one[0]) in action.alternatives.connectors]
    if action.alternatives != "sampled" or len(possible) <= width:
        return [token for token, _ in possible[:width]]
    weights = np.array([probability for _, probability in possible])
    random = np.random.default_rng(seed & (2**63 - 1))
    indices = random.choice(len(possible), width, replace=False, p=weights / weights.sum())
    return [possible[index][0] for index in sorted(indices.tolist())]
