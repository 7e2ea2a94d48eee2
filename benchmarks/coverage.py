"""How often the intervals of `forkpoint ab` and `forkpoint findings` cover the truth, and find an effect.

`make bench ARGS=coverage` simulates them; it needs no server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product, repeat

import numpy as np
from scipy import stats as distributions

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.stats import Estimate, Floats

from .tables import Listing

SEED = 20261
PER_ROUND = 400


@dataclass(frozen=True)
class Scores:
    """Right answers of two arms: `base` of the first and `gain` more of the second, on average over questions.

    `correlation` is that of answers to the same question; `shared` the share of pairs in which the same seed gives both
    arms the same luck. With `whole`, arms differ in all answers to a share `-gain` of the questions instead.
    """

    base: float
    gain: float
    correlation: float = 0.3
    shared: float = 0.3
    whole: bool = False

    def differences(self, questions: int, samples: int, random: np.random.Generator) -> Floats:
        """Second arm less first, [questions, samples]."""
        if self.whole:
            return np.repeat(np.sign(self.gain) * (random.random((questions, 1)) < abs(self.gain)), samples, axis=1)
        first = random.beta(*self._beta, (questions, 1))
        second = np.clip(first + self.gain, 0, 1)
        luck = random.random((questions, samples))
        own = np.where(random.random(luck.shape) < self.shared, luck, random.random(luck.shape))
        return (own < second).astype(np.float64) - (luck < first)

    @property
    def truth(self) -> float:
        """The mean difference."""
        if self.whole:
            return self.gain
        first = distributions.beta(*self._beta).ppf((np.arange(10_000) + 0.5) / 10_000)
        return float((np.clip(first + self.gain, 0, 1) - first).mean())

    @property
    def _beta(self) -> tuple[float, float]:
        size = 1 / self.correlation - 1
        return self.base * size, (1 - self.base) * size


@dataclass(frozen=True)
class Coverage:
    """Shares of simulated runs: the interval covers the truth, excludes zero; and the same of Student's, clustered."""

    covered: float
    found: float
    covered_by_student: float
    found_by_student: float


SCORES: dict[str, Scores] = {
    "no effect": Scores(0.5, 0.0, shared=0.5),
    "half right, 10 points less, mostly the same luck": Scores(0.5, -0.1, shared=0.9),
    "nearly all right, 5 points more, mostly the same luck": Scores(0.9, 0.05, shared=0.9),
    "half right, 12 points more": Scores(0.5, 0.12),
    "half right, 20 points more": Scores(0.5, 0.2),
    "two fifths right, 30 points more": Scores(0.4, 0.3, correlation=0.5),
    "a tenth of the questions lost whole": Scores(0.5, -0.1, whole=True),
    "three tenths of the questions lost whole": Scores(0.5, -0.3, whole=True),
}


def paired_scores(questions: int, samples: int, scores: Scores, repeats: int, seed: int = SEED) -> Coverage:
    """Simulate `repeats` comparisons of two arms, paired by question and sample."""
    random, truth = np.random.default_rng([seed, questions, samples]), scores.truth
    clusters = np.repeat(np.arange(questions), samples)
    results = []
    for _ in range(repeats):
        values = scores.differences(questions, samples, random)
        ours = stats.mean(values.ravel(), clusters, bound=1.0)
        student = stats.mean(values.ravel(), clusters)
        results.append((_covers(ours, truth), ours.excludes_zero, _covers(student, truth), student.excludes_zero))
    return Coverage(*(float(share) for share in np.mean(results, axis=0)))


def _covers(estimate: Estimate, truth: float) -> bool:
    return estimate.low - 1e-12 <= truth <= estimate.high + 1e-12


def coverage(rounds: int) -> list[Listing]:
    """The table of paired differences."""
    repeats = rounds * PER_ROUND
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return [_paired(pool, repeats)]


def _paired(pool: ProcessPoolExecutor, repeats: int) -> Listing:
    cells = list(product(SCORES.items(), (10, 24, 50), (1, 2, 4, 8)))
    questions, samples = [cell[1] for cell in cells], [cell[2] for cell in cells]
    measured = pool.map(paired_scores, questions, samples, [cell[0][1] for cell in cells], repeat(repeats))
    rows = [
        (
            name,
            f"{count}",
            f"{each}",
            *_percents((one.covered, one.covered_by_student, one.found, one.found_by_student)),
        )
        for ((name, _), count, each), one in zip(cells, measured, strict=True)
    ]
    heads = ("scores", "questions", "samples", "covers", "Student's covers", "finds", "Student's finds")
    notes = (
        f"{repeats} simulated comparisons a row, seed {SEED}; finds: the 95 % interval excludes zero.",
        (
            "Scores of a question correlate by .3 (.5 where 30 points more are right), and arms share their luck in "
            "three of ten pairs, half of them without an effect, nine of ten where it says mostly."
        ),
    )
    return Listing("paired", "paired differences of scores, beside Student's clustered interval", heads, rows, notes)


def _percents(shares: Sequence[float]) -> Iterator[str]:
    for share in shares:
        yield f"{100 * share:.1f} %"
