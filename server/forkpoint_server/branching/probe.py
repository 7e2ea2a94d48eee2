"""The controller of `probe`: tries out beside the request what it would answer, and ends the reasoning where the probes say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forkpoint_policies.spec import Probe
from forkpoint_policies.spec.answer_extractors import extractor
from forkpoint_policies.spec.connectors import FAMILIES

from .candidate import said_text
from .runner import Grown, TreeRunner
from .seeds import derived_seed

_WORDS = frozenset(word for words in FAMILIES.values() for word in words)
_LONGEST_CONNECTOR_TOKENS = 6


@dataclass
class ProbeController:
    """Ends the reasoning of a request early, as a `probe` says; `by_chance` is its placebo, which ends as late on average."""

    growth: TreeRunner
    probe: Probe
    by_chance: bool
    together: bool = True
    _probes: list[Grown] = field(default_factory=list)  # in the order of their positions
    _read: int = 0  # probes that were judged
    _answers: list[str | None] = field(default_factory=list)
    _mean: float = 0.0
    _variance: float | None = None
    _said_at: int | None = None  # where the probes said so, of which the placebo keeps the mean
    _drawn: bool = False  # where the placebo ends it

    def begin(self) -> None:
        self._current = self.growth.begin_root(self.growth.seed)
        self._written = self.growth.intervention.compiled.written_tokens(self.growth.seed)

    def reached(self, grown: Grown, position: int) -> None:
        if grown is not self._current or grown.node.number or self._said_at is not None:
            return
        if sum(probe.running for probe in self._probes) >= self.growth.limits.answers:
            self.growth.tree.refused += 1
            return
        leaves = position - self._connector_before(grown, position)
        probe = self.growth.begin(grown, leaves, self._written, kind="probe", most_tokens=self.probe.tokens)
        if probe is not None:
            self._probes.append(probe)

    def advanced(self, grown: Grown) -> None:
        """The placebo ends the reasoning once it is known how long it would have been."""
        end = self.growth.intervention.compiled.program.reasoning_end
        if (
            self._said_at is not None
            and grown is self._current
            and not grown.node.number
            and end in grown.answer.tokens
        ):
            self._exit_by_chance(grown, self._said_at, grown.answer.tokens.index(end))

    def ended(self, grown: Grown) -> None:
        """Probes are judged in the order of their positions, those too that end after the trunk: the first to say so counts."""
        trunk = self._current
        while trunk is not None and not trunk.node.number and self._said_at is None and self._read < len(self._probes):
            probe = self._probes[self._read]
            if probe.running:
                return
            self._read += 1
            whole = probe.node.ended in ("stop", "length")
            if not whole or not self._says_enough(probe) or self._read < self.probe.fewest:
                continue
            self._said_at = probe.node.position
            if not self.by_chance:
                self._exit(trunk, self._said_at)
                return
            self.advanced(trunk)
        if (
            self._said_at is not None
            and self.by_chance
            and trunk is not None
            and trunk is self._current
            and not trunk.running
        ):
            self._exit_by_chance(
                trunk, self._said_at, trunk.node.length - (trunk.node.ended == "stop")
            )  # before its end

    def certain(self) -> tuple[Grown, int] | None:
        """Up to where the next probe that is not judged, or one that may yet begin, could end the reasoning."""
        current = self._current
        if current is None or current.node.number:
            return None if current is None else (current, len(current.answer.tokens))
        if self.by_chance:
            return None
        looked = min(len(current.answer.tokens), current.node.trace.firm + 1) - _LONGEST_CONNECTOR_TOKENS
        return current, min([looked, *(probe.node.position for probe in self._probes[self._read :])])

    def chosen(self) -> Sequence[Grown]:
        assert self._current is not None
        return [self._current]

    def _exit_by_chance(self, trunk: Grown, position: int, length: int) -> None:
        """End a reasoning of that length at a random position, which on average over the seeds is this one."""
        if self._drawn:
            return
        self._drawn = True
        self._exit(trunk, random_exit(position, length, derived_seed(self.growth.seed, -2, 0)))

    def _exit(self, trunk: Grown, position: int) -> None:
        """Go on from a position with the end of the reasoning; what the trunk wrote after it is given up."""
        end = self.growth.intervention.compiled.program.reasoning_end
        if end in trunk.answer.tokens[:position]:
            return  # the reasoning had ended before
        followed = self.growth.begin(trunk, position, self._written, replaces=True)
        if followed is None:
            return
        self.growth.stop(trunk, "exit")
        for probe in self._probes:
            self.growth.stop(probe, "outvoted")
        self._current = followed

    def _says_enough(self, probe: Grown) -> bool:
        policy, profile = self.probe, probe.node.trace.profile()
        if policy.probability_above is not None:
            return len(profile.position) > 0 and float(profile.top_probability.mean()) > policy.probability_above
        if policy.variance_below is not None:
            return len(profile.position) > 0 and self._settled(
                float(profile.entropy[0]), policy.smoothing, policy.variance_below
            )
        self._answers.append(extractor(policy.extract)(said_text(self.growth, probe)))
        last = self._answers[-(policy.agreement or 0) :]
        return len(last) == policy.agreement and last[0] is not None and len(set(last)) == 1

    def _settled(self, entropy: float, smoothing: float, bound: float) -> bool:
        """Whether the exponential moving variance (West, 1979) is below a bound after one more entropy; not after the first."""
        if self._variance is None:
            self._mean, self._variance = entropy, 0.0
            return False
        difference = entropy - self._mean
        self._mean += smoothing * difference
        self._variance = (1 - smoothing) * (self._variance + smoothing * difference**2)
        return self._variance < bound

    def _connector_before(self, grown: Grown, position: int) -> int:
        """How many tokens before this one are the connector at which the rule fired: the answer is tried in its place."""
        tokens, vocabulary = grown.answer.tokens, self.growth.intervention.model.vocabulary
        for count in range(1, min(_LONGEST_CONNECTOR_TOKENS, position) + 1):
            text = b"".join(vocabulary.tokens[token] for token in tokens[position - count : position]).decode(
                errors="replace"
            )
            if text.strip().lower() in _WORDS:
                return count
        return 0


def random_exit(position: int, length: int, seed: int) -> int:
    """A position within a length, uniform about `position` as widely as fits, so that it is the mean."""
    reach = min(position, length - position)
    return max(1, round(position + reach * (2 * float(np.random.default_rng(seed).random()) - 1)))
