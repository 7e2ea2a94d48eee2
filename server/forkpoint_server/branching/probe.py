"""The controller of `probe`: samples trial answers beside the request, and ends its reasoning once they suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forkpoint_policies.spec import Probe, When

from .choice_output import text_of
from .interface import Choice, TreeControl, TrialAnswer
from .seeds import derived_seed
from .trial_answer import (
    MovingVariance,
    confidence_of_trial,
    end_margin,
    end_rank,
    ranks_hold,
    start_trial,
    step_entropy_bits,
)
from .trial_start import TrialStart, TrialStarts


@dataclass(frozen=True, eq=False)
class Trial:
    """A trial answer: where the rule fired, and where it starts."""

    choice: Choice
    fired_at: int
    start: TrialStart


@dataclass(frozen=True)
class Exit:
    """Where the reasoning ends, and the answer that is written there if the policy writes one."""

    start: TrialStart
    answer: str | None = None


@dataclass
class ProbeController:
    """Ends the reasoning of the trunk, the request's first answer, at the first probe that suffices.

    Its placebo, `by_chance`, ends the reasoning at a random position, on average where the probes would.
    """

    runner: TreeControl
    action: Probe
    when: When
    by_chance: bool
    returns_one: bool = True
    _current: Choice | None = None  # the trunk, then the answer that replaced it
    _trials: list[Trial] = field(default_factory=list)  # in the order of their positions
    _last_fired: int = -1  # the last position at which the rule fired
    _num_judged: int = 0
    _answers: list[TrialAnswer | None] = field(default_factory=list)
    _entropy: MovingVariance | None = None
    _ranks: list[float] = field(default_factory=list)  # of the end of the reasoning, where the rule fired
    _step_begin: int = 0  # the position at which the step that is being written begins
    _exit: Exit | None = None  # of the first probe that sufficed
    _exited: bool = False

    def __post_init__(self) -> None:
        self.runner.stores_all_alternatives = self.action.step_entropy_bits_at_most is not None
        self._starts = TrialStarts(self.action, self.when.previous, self.runner.request.vocabulary)

    def start(self) -> None:
        self._current = self.runner.start_root(self.runner.request.seed)

    def on_fork(self, choice: Choice, position: int) -> None:
        """Start a probe where the rule fired."""
        if choice is not self._trunk() or self._exit is not None:
            return
        start, last = self._starts.at(choice.output.tokens, position), self._last_fired
        self._last_fired = position
        if start is None or (self._starts.drops_endings and start.position <= last and not start.kept):
            return  # no sentence has ended, or a further ending follows the last one
        if not self.action.has_trials:
            if self._holds_without_trial(choice, position):
                self._exit = self._exit_after(position, start)
                self.on_tokens(choice)
            return
        trial = start_trial(self.runner, self.action, choice, start)
        if trial is not None:
            self._trials.append(Trial(trial, position, start))

    def on_tokens(self, choice: Choice) -> None:
        """End the reasoning once the trunk is long enough; the placebo, once the reasoning's length is known."""
        if self._exit is None or self._exited or choice is not self._trunk():
            return
        if not self.by_chance:
            position, length = self._exit.start.position, len(choice.output.tokens)
            # the records that the successor inherits from may come after the tokens, that of the next position too
            reported = choice.node.trace.last_final_position + 1 >= min(length, position + 1)
            if length >= position and (reported or not choice.running):
                self._leave(choice, self._exit)
            return
        request = self.runner.request
        ended_at = request.regions.read(choice.output.tokens, request.region).reasoning_end
        if ended_at is not None:
            self._exit_by_chance(choice, ended_at)

    def on_end(self, choice: Choice) -> None:
        """Judge the probes in order of position, even after the trunk has ended; the first to suffice counts."""
        trunk = self._trunk()
        if trunk is None:
            return

        # judge
        while self._exit is None and self._num_judged < len(self._trials):
            trial = self._trials[self._num_judged]
            if trial.choice.running:
                return
            self._num_judged += 1
            is_whole = trial.choice.node.ended in ("stop", "length")
            if is_whole and self._is_enough(trunk, trial) and self._num_judged >= self.action.fewest:
                self._exit = self._exit_after(trial.fired_at, trial.start)
                self.on_tokens(trunk)

        if self._exit is not None and not self.by_chance and not trunk.running:
            self.on_tokens(trunk)

        # the placebo of a trunk that has ended within its reasoning: before its end
        if self._exit is not None and self.by_chance and trunk is self._current and not trunk.running:
            self._exit_by_chance(trunk, trunk.node.length - (trunk.node.ended == "stop"))

    def settled(self) -> tuple[Choice, int] | None:
        """The tokens before any position at which a probe, started or not, could still end the reasoning."""
        if self._current is None:
            return None
        trunk = self._trunk()
        if trunk is None:
            return self._current, len(self._current.output.tokens)
        if self.by_chance:
            return None
        last_reported = trunk.node.trace.last_final_position
        bounds = [min(len(trunk.output.tokens), last_reported + 1) - self._starts.max_dropped]
        bounds += [trial.start.position for trial in self._trials[self._num_judged :]]
        bounds += [self._exit.start.position] if self._exit is not None and not self._exited else []
        return trunk, min(bounds)

    def select(self) -> Sequence[Choice]:
        assert self._current is not None
        return [self._current]

    def _trunk(self) -> Choice | None:
        """The first answer, until another one has replaced it."""
        return self._current if self._current is not None and self._current.node.number == 0 else None

    def _holds_without_trial(self, choice: Choice, position: int) -> bool:
        """Whether the criterion that needs no trial answer holds where the rule fired."""
        action, request = self.action, self.runner.request
        if action.end_of_reasoning_ranks is not None:
            self._ranks.append(end_rank(request, choice.node, position))
            return ranks_hold(action.end_of_reasoning_ranks, self._ranks)
        assert action.step_entropy_bits_at_most is not None
        step = choice.output.tokens[self._step_begin : position]
        if not text_of(step, request.vocabulary, request.params).strip():
            return False  # a further newline: it belongs to the next step
        begin, self._step_begin = self._step_begin, position
        return step_entropy_bits(choice.node, begin, position) <= action.step_entropy_bits_at_most

    def _exit_after(self, fired_at: int, start: TrialStart) -> Exit:
        last = self._answers[-1] if self._answers else None
        answer = last.written if last is not None else None
        if self.action.exit_after_tokens:
            return Exit(TrialStart(fired_at + self.action.exit_after_tokens), answer)
        return Exit(start, answer)

    def _exit_by_chance(self, trunk: Choice, length: int) -> None:
        """End a reasoning of this length at a random position, whose mean over the seeds is that of the exit."""
        if self._exit is not None and not self._exited:
            seed = derived_seed(self.runner.request.seed, -2, 0)
            position = random_exit(min(self._exit.start.position, length), length, seed)
            self._leave(trunk, Exit(TrialStart(position), self._exit.answer))

    def _leave(self, trunk: Choice, exit_: Exit) -> None:
        """Continue from a position with the end of the reasoning, and drop what the trunk wrote after it."""
        self._exited = True
        request, position = self.runner.request, exit_.start.position
        reader = request.regions.read(trunk.output.tokens[:position], request.region)
        if not reader.ends_in_reasoning or reader.ends_in_tool_call:
            return  # the reasoning ended before, or a tool call is being written
        tokens = request.ending.following(exit_.start.kept, request.encode, exit_.answer)
        stops = self.action.end_reasoning is not None and self.action.end_reasoning.stop
        if stops:
            tokens = [*tokens, request.stop]
        successor = self.runner.start_child(trunk, position, tokens, replaces_parent=True, is_whole=stops)
        if successor is None:
            return
        self.runner.stop(trunk, "exit")
        for trial in self._trials:
            self.runner.stop(trial.choice, "outvoted")
        self._current = successor

    def _is_enough(self, trunk: Choice, trial: Trial) -> bool:
        """Whether this probe, after those before it, says that the reasoning can end."""
        action, request, choice = self.action, self.runner.request, trial.choice
        if action.probability_above is not None:
            return confidence_of_trial(request, action, choice) > action.probability_above
        if action.variance_below is not None:
            profile = choice.node.trace.profile()
            return len(profile.position) > 0 and self._variance_is_below(
                float(profile.entropy[0]), action.smoothing, action.variance_below
            )
        if action.end_of_reasoning_within is not None:
            (end,) = request.regions.reasoning_end
            return end_margin(trunk.node, trial.fired_at, choice, end) <= action.end_of_reasoning_within
        self._answers.append(choice.trial_answer)
        compared = [one and one.compared for one in self._answers[-(action.agreement or 0) :]]
        return len(compared) == action.agreement and compared[0] is not None and len(set(compared)) == 1

    def _variance_is_below(self, entropy: float, smoothing: float, bound: float) -> bool:
        """Whether the moving variance of the entropies is below a bound, with one more; not after the first."""
        if self._entropy is None:
            self._entropy = MovingVariance(entropy)
            return False
        self._entropy.add(entropy, smoothing)
        return self._entropy.variance < bound


def random_exit(position: int, length: int, seed: int) -> int:
    """A random position within a length, uniform around `position` as widely as fits, so that this is the mean."""
    reach = min(position, length - position)
    return max(1, round(position + reach * (2 * float(np.random.default_rng(seed).random()) - 1)))
