"""The controller of `sample` by confidence: unsure answers are stopped early, and the others vote (DeepConf)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forkpoint_policies.spec import Sample, Select

from .candidate import candidate_of
from .confidence import RunningGroupConfidence, confidences, group_confidences
from .interface import Choice, TreeControl
from .seeds import derived_seed
from .voting import Candidate, agreed, choose, decided


@dataclass
class SampleController:
    """Samples the first answers, the warm-up, to the end; then the others, which stop below the warm-up's confidence.

    Its placebo, `by_chance`, stops as many answers after as many tokens, at random.
    """

    runner: TreeControl
    action: Sample
    by_chance: bool
    returns_one: bool = True
    threshold: float | None = None  # nats, once the warm-up has ended
    _num_answers: int = 0
    _warm_up: list[Choice] = field(default_factory=list)
    _running: dict[int, RunningGroupConfidence] = field(default_factory=dict)  # by the answer's number
    # of the placebo:
    _warm_up_stops: list[int | None] = field(default_factory=list)  # where the warm-up's would have been stopped
    _stops_at: dict[int, int | None] = field(default_factory=dict)  # a position, by the answer's number
    _without_vote: set[int] = field(default_factory=set)  # answers of the warm-up

    def start(self) -> None:
        self._num_answers = min(self.action.answers, self.runner.request.max_answers)
        self.runner.tree.num_refused += self.action.answers - self._num_answers
        self._warm_up = self._start(range(min(self.action.warm_up, self._num_answers)))

    def on_fork(self, choice: Choice, position: int) -> None:
        """The rule fires nowhere."""

    def on_tokens(self, choice: Choice) -> None:
        if self.threshold is None or not choice.running or choice in self._warm_up:
            return
        if self.by_chance:
            stops_at = self._stops_at[choice.node.number]
            stops = stops_at is not None and choice.node.length >= stops_at
        else:
            stops = self._is_unsure(choice, self.threshold)
        if stops:
            self.runner.stop(choice, "unsure")
            self._continue()

    def on_end(self, choice: Choice) -> None:
        if choice.node.ended != "unsure":
            self._continue()

    def settled(self) -> None:
        """The selection is known at the end."""

    def select(self) -> Sequence[Choice]:
        number = choose(self._voters(), self._weighting)
        return [self.runner.choices[number or 0]]

    @property
    def _weighting(self) -> Select:
        return "majority" if self.by_chance else "confidence"

    def _continue(self) -> None:
        """Start the other answers after the warm-up, and stop them once the vote is decided."""
        if any(choice.running for choice in self._warm_up):
            return
        share = self.action.deciding_share
        if self.threshold is None:
            self.threshold = self._warm_up_threshold()
            if share is None or not agreed(self._voters(), self._weighting, share):
                for choice in self._start(range(min(self.action.warm_up, self._num_answers), self._num_answers)):
                    self._stops_at[choice.node.number] = self._random_stop(choice)
        elif self.runner.running and decided(self._voters(), self._weighting, share):
            for choice in self.runner.running:
                self.runner.stop(choice, "outvoted")

    def _start(self, numbers: range) -> list[Choice]:
        seed = self.runner.request.seed
        seeds = [seed if not number else derived_seed(seed, -1, number) for number in numbers]
        return [choice for seed in seeds if (choice := self.runner.start_root(seed)) is not None]

    def _warm_up_threshold(self) -> float:
        """The group confidence, in nats, below which an answer stops: a percentile of the warm-up's lowest ones."""
        lowest = [self._candidate(choice).confidence for choice in self._warm_up]
        known = [nats for nats in lowest if nats is not None]
        threshold = float(np.percentile(known, 100 - self.action.keep_percent)) if known else 0.0
        if self.by_chance:
            self._warm_up_stops = [self._stop_position(choice, threshold) for choice in self._warm_up]
            random = np.random.default_rng(derived_seed(self.runner.request.seed, -2, 0))
            num_below = sum(nats is not None and nats < threshold for nats in lowest)
            chosen = random.choice(len(self._warm_up), num_below, replace=False).tolist()
            self._without_vote = {self._warm_up[index].node.number for index in chosen}
        return threshold

    def _random_stop(self, choice: Choice) -> int | None:
        """Where the placebo stops an answer: where a random one of the warm-up would have been stopped."""
        if not self._warm_up_stops:
            return None
        random = np.random.default_rng(derived_seed(choice.seed, -2, 0))
        return self._warm_up_stops[random.integers(len(self._warm_up_stops))]

    def _stop_position(self, choice: Choice, threshold: float) -> int | None:
        """After how many tokens an answer would have been stopped."""
        num_tokens, means = group_confidences(confidences(choice.node), self.action.window)
        below = means < threshold
        return int(num_tokens[below.argmax()]) if below.any() else None

    def _is_unsure(self, choice: Choice, threshold: float) -> bool:
        """Whether the latest group confidence is below the threshold."""
        trace = choice.node.trace
        group = self._running.setdefault(choice.node.number, RunningGroupConfidence(self.action.window))
        while (position := group.num_tokens) < len(trace.tokens):
            if not trace.is_valid(position) or position not in trace.confidence:
                break
            group.add(trace.confidence[position])
        return group.latest is not None and group.latest < threshold

    def _voters(self) -> list[Candidate]:
        candidates = [self._candidate(choice) for choice in self.runner.choices]
        if self.threshold is None:
            return candidates
        if self.by_chance:
            voters = [candidate for candidate in candidates if candidate.number not in self._without_vote]
        else:
            voters = [one for one in candidates if one.end_order is None or (one.confidence or 0.0) >= self.threshold]
        return voters if any(candidate.is_whole for candidate in voters) else candidates

    def _candidate(self, choice: Choice) -> Candidate:
        return candidate_of(self.runner.request, choice, self.action.extract, "confidence", self.action.window)
