"""The controller of `probe`: samples trial answers beside the request, and ends its reasoning once they suffice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forkpoint_policies.spec import Probe
from forkpoint_policies.spec.answer_extractors import extractor
from forkpoint_policies.spec.connectors import FAMILIES

from .candidate import text_after_reasoning
from .interface import Choice, TreeControl
from .seeds import derived_seed

_WORDS = frozenset(word for words in FAMILIES.values() for word in words)
_MAX_CONNECTOR_TOKENS = 6


@dataclass
class ProbeController:
    """Ends the reasoning of the trunk, the request's first answer, at the first probe that suffices.

    Its placebo, `by_chance`, ends the reasoning at a random position, on average where the probes would.
    """

    runner: TreeControl
    action: Probe
    by_chance: bool
    returns_one: bool = True
    _current: Choice | None = None  # the trunk, then the answer that replaced it
    _probes: list[Choice] = field(default_factory=list)  # in the order of their positions
    _num_judged: int = 0
    _answers: list[str | None] = field(default_factory=list)
    _entropy: MovingVariance | None = None
    _exit_position: int | None = None  # of the first probe that sufficed
    _exited_by_chance: bool = False

    def start(self) -> None:
        self._current = self.runner.start_root(self.runner.request.seed)

    def on_fork(self, choice: Choice, position: int) -> None:
        """Start a probe in place of the connector at which the rule fired."""
        if choice is not self._trunk() or self._exit_position is not None:
            return
        request = self.runner.request
        if sum(other.node.kind == "probe" for other in self.runner.running) >= request.max_answers:
            self.runner.tree.num_refused += 1
            return
        probe = self.runner.start_child(
            choice,
            position - self._num_connector_tokens(choice, position),
            request.written_tokens,
            kind="probe",
            max_tokens=self.action.tokens,
        )
        if probe is not None:
            self._probes.append(probe)

    def on_tokens(self, choice: Choice) -> None:
        """The placebo ends the reasoning once its length is known."""
        if self._exit_position is None or choice is not self._trunk() or self._exited_by_chance:
            return
        request = self.runner.request
        length = request.regions.read(choice.output.tokens, request.region).reasoning_end
        if length is not None:
            self._exit_by_chance(choice, self._exit_position, length)

    def on_end(self, choice: Choice) -> None:
        """Judge the probes in order of position, even after the trunk has ended; the first to suffice counts."""
        trunk = self._trunk()
        if trunk is None:
            return

        # judge
        while self._exit_position is None and self._num_judged < len(self._probes):
            probe = self._probes[self._num_judged]
            if probe.running:
                return
            self._num_judged += 1
            is_whole = probe.node.ended in ("stop", "length")
            if is_whole and self._is_enough(probe) and self._num_judged >= self.action.fewest:
                self._exit_position = probe.node.position
                if not self.by_chance:
                    self._exit(trunk, self._exit_position)
                    return
                self.on_tokens(trunk)

        # the placebo of a trunk that has ended within its reasoning: before its end
        if self._exit_position is not None and self.by_chance and trunk is self._current and not trunk.running:
            length = trunk.node.length - (trunk.node.ended == "stop")
            self._exit_by_chance(trunk, self._exit_position, length)

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
        reported = min(len(trunk.output.tokens), last_reported + 1) - _MAX_CONNECTOR_TOKENS
        return trunk, min([reported, *(probe.node.position for probe in self._probes[self._num_judged :])])

    def select(self) -> Sequence[Choice]:
        assert self._current is not None
        return [self._current]

    def _trunk(self) -> Choice | None:
        """The first answer, until another one has replaced it."""
        return self._current if self._current is not None and self._current.node.number == 0 else None

    def _exit_by_chance(self, trunk: Choice, position: int, length: int) -> None:
        """End a reasoning of this length at a random position, whose mean over the seeds is `position`."""
        if not self._exited_by_chance:
            self._exited_by_chance = True
            self._exit(trunk, random_exit(position, length, derived_seed(self.runner.request.seed, -2, 0)))

    def _exit(self, trunk: Choice, position: int) -> None:
        """Continue from a position with the end of the reasoning, and drop what the trunk wrote after it."""
        request = self.runner.request
        reader = request.regions.read(trunk.output.tokens[:position], request.region)
        if not reader.ends_in_reasoning or reader.ends_in_tool_call:
            return  # the reasoning ended before, or a tool call is being written
        successor = self.runner.start_child(trunk, position, request.written_tokens, replaces_parent=True)
        if successor is None:
            return
        self.runner.stop(trunk, "exit")
        for probe in self._probes:
            self.runner.stop(probe, "outvoted")
        self._current = successor

    def _is_enough(self, probe: Choice) -> bool:
        """Whether this probe, after those before it, says that the reasoning can end."""
        action, profile = self.action, probe.node.trace.profile()
        if action.probability_above is not None:
            return len(profile.position) > 0 and float(profile.top_probability.mean()) > action.probability_above
        if action.variance_below is not None:
            return len(profile.position) > 0 and self._variance_is_below(
                float(profile.entropy[0]), action.smoothing, action.variance_below
            )
        self._answers.append(extractor(action.extract)(text_after_reasoning(self.runner.request, probe)))
        last = self._answers[-(action.agreement or 0) :]
        return len(last) == action.agreement and last[0] is not None and len(set(last)) == 1

    def _variance_is_below(self, entropy: float, smoothing: float, bound: float) -> bool:
        """Whether the moving variance of the entropies is below a bound, with one more; not after the first."""
        if self._entropy is None:
            self._entropy = MovingVariance(entropy)
            return False
        self._entropy.add(entropy, smoothing)
        return self._entropy.variance < bound

    def _num_connector_tokens(self, choice: Choice, position: int) -> int:
        """How many tokens before this one are the connector at which the rule fired; 0 if they are none."""
        tokens, vocabulary = choice.output.tokens, self.runner.request.vocabulary
        for count in range(1, min(_MAX_CONNECTOR_TOKENS, position) + 1):
            text = b"".join(vocabulary.tokens[token] for token in tokens[position - count : position])
            if text.decode(errors="replace").strip().lower() in _WORDS:
                return count
        return 0


@dataclass
class MovingVariance:
    """The exponential moving mean and variance of a sequence that starts with `mean` (West, 1979)."""

    mean: float
    variance: float = 0.0

    def add(self, value: float, smoothing: float) -> None:
        difference = value - self.mean
        self.mean += smoothing * difference
        self.variance = (1 - smoothing) * (self.variance + smoothing * difference**2)


def random_exit(position: int, length: int, seed: int) -> int:
    """A random position within a length, uniform around `position` as widely as fits, so that this is the mean."""
    reach = min(position, length - position)
    return max(1, round(position + reach * (2 * float(np.random.default_rng(seed).random()) - 1)))
