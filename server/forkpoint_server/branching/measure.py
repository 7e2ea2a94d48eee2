"""The controller of a probe that only measures: an answer goes on under other rules where the model is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forkpoint_policies.spec import Probe, When

from .interface import Choice, TreeControl
from .seeds import derived_seed
from .trial_answer import confidence_of_trial, start_trial
from .trial_start import TrialStarts


@dataclass(frozen=True, eq=False)
class Measurement:
    """Where the rule fired, and the trial answer there."""

    position: int
    trial: Choice


@dataclass
class MeasureController:
    """Continues the answer at each probe under the rules that its result asks for.

    The answer goes on while a probe runs, under the rules that it had, and so it does where none could start. If the
    result asks for others, another answer takes over from where the rule fired.
    """

    runner: TreeControl
    action: Probe
    when: When
    returns_one: bool = True
    _current: Choice | None = None
    _is_sure: bool = False  # the rules under which the current answer runs
    _measured: list[Measurement] = field(default_factory=list)  # of the current answer, not judged yet

    def __post_init__(self) -> None:
        self._starts = TrialStarts(self.action, self.when.previous, self.runner.request.vocabulary)

    def start(self) -> None:
        self._current = self.runner.start_root(self.runner.request.seed)

    def on_fork(self, choice: Choice, position: int) -> None:
        """Start a probe where the rule fired, except where an answer has just taken over for its result."""
        node = choice.node
        if choice is not self._current or (node.parent is not None and position <= node.position):
            return
        start = self._starts.at(choice.output.tokens, position)
        trial = None if start is None else start_trial(self.runner, self.action, choice, start)
        if trial is not None:
            self._measured.append(Measurement(position, trial))

    def on_tokens(self, choice: Choice) -> None:
        """Only the end of a probe matters."""

    def on_end(self, choice: Choice) -> None:
        self._judge()

    def settled(self) -> tuple[Choice, int] | None:
        """The tokens before the first position from which another answer may still take over."""
        current = self._current
        if current is None:
            return None
        reported = min(len(current.output.tokens), current.node.trace.last_final_position + 1)
        return current, min([reported, *(one.position for one in self._measured)])

    def select(self) -> Sequence[Choice]:
        assert self._current is not None
        return [self._current]

    def _judge(self) -> None:
        """Read the results in the order of their positions, and continue under other rules where one asks for them."""
        while self._measured and self._current is not None:
            position, trial = self._measured[0].position, self._measured[0].trial
            if trial.running:
                return
            self._measured.pop(0)
            sure = trial.node.ended in ("stop", "length") and self._is_sure_of(trial, position)
            if sure != self._is_sure:
                self._take_over(self._current, position, sure)

    def _is_sure_of(self, trial: Choice, position: int) -> bool:
        """Whether the rules that wait for a sure probe act after this one; with `in_proportion`, by chance."""
        request = self.runner.request
        bound = request.confidence_bound
        assert bound is not None
        confidence = confidence_of_trial(request, self.action, trial)
        if confidence <= bound or not self.action.in_proportion:
            return confidence > bound
        random = np.random.default_rng(derived_seed(request.seed, position, -4))
        return float(random.random()) < (confidence - bound) / (1 - bound)

    def _take_over(self, current: Choice, position: int, sure: bool) -> None:
        successor = self.runner.start_child(current, position, (), replaces_parent=True, sure=sure)
        if successor is None:
            return
        self.runner.stop(current, "exit")
        for later in self._measured:
            self.runner.stop(later.trial, "outvoted")
        self._measured.clear()
        self._current, self._is_sure = successor, sure
