"""The controller of `sample` by majority or self-certainty: independent answers, and when enough of them have ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forkpoint_policies.spec import MAX_WINDOW, Sample

from .candidate import candidate_of
from .interface import Choice, TreeControl
from .posterior import posterior_of_leader
from .seeds import derived_seed
from .voting import Candidate, choose, decided, elect, ranked_votes


@dataclass
class ConsistencyController:
    """Samples answers until their vote is decided by the action's rule, and returns the one that wins it.

    Its placebo, `by_chance`, samples as many and returns one of them at random; with `first`, the answers that have a
    vote are chosen at random, rather than by when they end.
    """

    runner: TreeControl
    action: Sample
    by_chance: bool
    returns_one: bool = True
    _num_answers: int = 0
    _at_once: int = 0
    _voters: list[Choice] | None = None  # those who have a vote, once the rule has stopped the others
    _num_judged: int = 0  # of the first answers, or of the first windows
    _first: list[Choice] = field(default_factory=list)  # those that have ended first, in this order

    def start(self) -> None:
        action = self.action
        self._num_answers = min(action.answers, self.runner.request.max_answers)
        self.runner.tree.num_refused += action.answers - self._num_answers
        self._at_once = self._num_answers
        if action.posterior_at is not None:
            self._at_once = action.at_a_time
        elif action.unanimous is not None:
            self._at_once = action.unanimous
        self._start_more()

    def on_fork(self, choice: Choice, position: int) -> None:
        """The rule fires nowhere."""

    def on_tokens(self, choice: Choice) -> None:
        """Once the first so many have ended their reasoning, only they go on."""
        if self.action.first is None or self._voters is not None or choice in self._first:
            return
        if self.action.first_by == "reasoning" and choice.node.trace.regions.reasoning_end is not None:
            self._add_first(choice)

    def on_end(self, choice: Choice) -> None:
        if self._voters is None:
            self._judge(choice)
        if self._voters is None:
            self._start_more()

    def settled(self) -> None:
        """The selection is known at the end."""

    def select(self) -> Sequence[Choice]:
        self.runner.tree.num_refused += max(0, self._num_answers - len(self.runner.choices)) * (self._voters is None)
        candidates = [self._candidate(choice) for choice in self._voters or self.runner.choices]
        if self.by_chance:
            whole = [candidate for candidate in candidates if candidate.is_whole] or candidates
            random = np.random.default_rng(derived_seed(self.runner.request.seed, -2, 0))
            return [self.runner.choices[whole[int(random.integers(len(whole)))].number]]
        if self.action.first is not None:
            candidates.sort(key=lambda one: (one.num_reasoning_tokens, one.num_tokens))
        votes = None
        if self.action.select == "self-certainty":
            votes = ranked_votes({one.number: one.self_certainty for one in candidates}, self.action.power)
        number = elect(candidates, votes)
        if number is None:
            number = choose(candidates, "first")
        return [self.runner.choices[number or 0]]

    def _start_more(self) -> None:
        """Start the next answers, as many as run at once: of windows, once the last one has ended."""
        runner, windows = self.runner, self.action.unanimous is not None
        if windows and runner.running:
            return
        while len(runner.choices) < self._num_answers and len(runner.running) < self._at_once:
            number, seed = len(runner.choices), runner.request.seed
            needs_room = bool(runner.running)
            if needs_room and not runner.has_room:
                return  # the next one that ends makes room
            runner.start_root(derived_seed(seed, -1, number) if number else seed, needs_room)

    def _judge(self, ended: Choice) -> None:
        """Stop the others if the answers that have ended decide."""
        action, choices = self.action, self.runner.choices
        if action.posterior_at is not None:
            while self._num_judged < len(choices) and not choices[self._num_judged].running:
                self._num_judged += 1
                voters = choices[: self._num_judged]
                said = Counter(answer for one in voters if (answer := self._candidate(one).answer) is not None)
                if posterior_of_leader(list(said.values()), action.posterior) >= action.posterior_at:
                    return self._stop_others(voters)
        elif action.unanimous is not None:
            window = choices[self._num_judged : self._num_judged + action.unanimous]
            if len(window) == action.unanimous and not any(one.running for one in window):
                self._num_judged += action.unanimous
                answers = {self._candidate(one).answer for one in window}
                if len(answers) == 1 and None not in answers:
                    return self._stop_others(window)
        elif action.first is not None:
            if ended not in self._first and self._candidate(ended).is_whole:
                self._add_first(ended)
        elif action.select == "majority" and self._is_decided():
            self._stop_others(choices)
        return None

    def _is_decided(self) -> bool:
        candidates = [self._candidate(choice) for choice in self.runner.choices]
        left = self._num_answers - len(candidates)
        return bool(self.runner.running) and decided(candidates, "majority", self.action.deciding_share, left)

    def _add_first(self, choice: Choice) -> None:
        assert self.action.first is not None
        self._first.append(choice)
        voters = self._first
        if self.by_chance:
            random = np.random.default_rng(derived_seed(self.runner.request.seed, -3, 0))
            number = min(self.action.first, len(self.runner.choices))
            chosen = random.choice(len(self.runner.choices), number, replace=False).tolist()
            voters = [one for one in (self.runner.choices[index] for index in chosen) if one in self._first]
        if len(voters) == self.action.first:
            self._stop_others(list(voters))

    def _stop_others(self, voters: Sequence[Choice]) -> None:
        self._voters = list(voters)
        for choice in self.runner.running:
            if choice not in self._voters or self.action.first is None:
                self.runner.stop(choice, "outvoted")

    def _candidate(self, choice: Choice) -> Candidate:
        action = self.action
        return candidate_of(self.runner.request, choice, action.extract, action.select, MAX_WINDOW)
