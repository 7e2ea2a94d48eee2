"""The controller of `sample`: independent answers, of which the unsure ones are stopped, and a vote by confidence (DeepConf)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from forkpoint_policies.spec import Sample, Select

from .candidate import confidences, leaf_of
from .runner import Grown, TreeRunner
from .seeds import derived_seed
from .voting import Leaf, agreed, choose, decided


@dataclass
class SampleController:
    """Samples answers as a `sample` says; `by_chance` is its placebo: as many are stopped, after as many tokens, by chance."""

    growth: TreeRunner
    sample: Sample
    by_chance: bool
    together: bool = True
    threshold: float | None = None  # nats
    _crossed: list[int | None] = field(default_factory=list)  # of the placebo: where the first would have been stopped
    _stops_at: dict[int, int | None] = field(default_factory=dict)  # of the placebo, by the answer's number: a position
    _dropped: set[int] = field(default_factory=set)  # of the placebo, those of the first whose votes do not count
    _sums: dict[int, list[float]] = field(default_factory=dict)  # of confidences, by the answer's number

    def begin(self) -> None:
        answers = min(self.sample.answers, self.growth.limits.answers)
        self.growth.tree.refused += self.sample.answers - answers
        self._answers, self._warm_up = answers, min(self.sample.warm_up, answers)
        self._first = self._begin(range(self._warm_up))

    def reached(self, grown: Grown, position: int) -> None:
        """The rule fires nowhere."""

    def advanced(self, grown: Grown) -> None:
        if self.threshold is None or not grown.running or grown in self._first:
            return
        if self.by_chance:
            at = self._stops_at[grown.node.number]
            stops = at is not None and grown.node.length >= at
        else:
            stops = self._is_unsure(grown, self.threshold)
        if stops:
            self.growth.stop(grown, "unsure")
            self._after_end()

    def ended(self, grown: Grown) -> None:
        if grown.node.ended != "unsure":
            self._after_end()

    def certain(self) -> None:
        """Which answer it will be is known at the end."""

    def chosen(self) -> Sequence[Grown]:
        number = choose(self._voters(), self._weighing)
        return [self.growth.grown[number or 0]]

    @property
    def _weighing(self) -> Select:
        return "majority" if self.by_chance else "confidence"

    def _after_end(self) -> None:
        growth = self.growth
        warm = self._first
        if any(grown.running for grown in warm):
            return
        if self.threshold is None:
            self._set_threshold(warm)
            share = self.sample.decided_at
            if share is None or not agreed(self._voters(), self._weighing, share):
                for grown in self._begin(range(self._warm_up, self._answers)):
                    self._stops_at[grown.node.number] = self._drawn_from(grown)
        elif growth.running and decided(self._voters(), self._weighing, self.sample.decided_at):
            for one in growth.running:
                growth.stop(one, "outvoted")

    def _begin(self, numbers: range) -> list[Grown]:
        seeds = [self.growth.seed if not number else derived_seed(self.growth.seed, -1, number) for number in numbers]
        return [grown for seed in seeds if (grown := self.growth.begin_root(seed)) is not None]

    def _set_threshold(self, warm: list[Grown]) -> None:
        lowest = [self._leaf(grown).confidence for grown in warm]
        known = [one for one in lowest if one is not None]
        self.threshold = float(np.percentile(known, 100 - self.sample.keep_percent)) if known else 0.0
        if not self.by_chance:
            return
        self._crossed = [self._crossing(grown) for grown in warm]
        random = np.random.default_rng(derived_seed(self.growth.seed, -2, 0))
        below = sum(one is not None and one < self.threshold for one in lowest)
        self._dropped = {warm[place].node.number for place in random.choice(len(warm), below, replace=False).tolist()}

    def _drawn_from(self, grown: Grown) -> int | None:
        """Where the placebo stops an answer: where one of the first would have been, drawn at random."""
        if not self._crossed:
            return None
        return self._crossed[np.random.default_rng(derived_seed(grown.seed, -2, 0)).integers(len(self._crossed))]

    def _crossing(self, grown: Grown) -> int | None:
        """The position at which an answer would have been stopped."""
        found = confidences(grown.node)
        if not len(found):
            return None
        window = min(self.sample.window, len(found))
        known, sums = ~np.isnan(found), np.concatenate(([0.0], np.nancumsum(found)))
        counts = np.concatenate(([0], known.cumsum()))
        count = (counts[window:] - counts[:-window]).clip(min=1)
        below = (sums[window:] - sums[:-window]) / count < (self.threshold or 0.0)
        return window + int(below.argmax()) if below.any() else None

    def _is_unsure(self, grown: Grown, threshold: float) -> bool:
        """Whether the latest group confidence is below the threshold; a group has as many tokens as the window."""
        sums, window, trace = self._sums.setdefault(grown.node.number, [0.0]), self.sample.window, grown.node.trace
        while (
            len(sums) <= len(trace.tokens) and trace.counts(position := len(sums) - 1) and position in trace.confidence
        ):
            sums.append(sums[-1] + trace.confidence[position])
        return len(sums) > window and (sums[-1] - sums[-1 - window]) / window < threshold

    def _voters(self) -> list[Leaf]:
        leaves = [self._leaf(grown) for grown in self.growth.grown]
        if self.threshold is None:
            return leaves
        if self.by_chance:
            return [leaf for leaf in leaves if leaf.number not in self._dropped]
        sure = [leaf for leaf in leaves if leaf.ended_at is None or (leaf.confidence or 0.0) >= self.threshold]
        return sure if any(leaf.ended_at is not None for leaf in sure) else leaves

    def _leaf(self, grown: Grown) -> Leaf:
        """An answer as it stands: its confidences are read once, when it has ended."""
        return leaf_of(self.growth, grown, self.sample.extract, "confidence", self.sample.window)
