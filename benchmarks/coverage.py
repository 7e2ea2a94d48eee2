"""How often the intervals of `forkpoint ab` and `forkpoint findings` cover the truth, and find an effect.

`make bench ARGS=coverage` simulates them; it needs no server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from itertools import product, repeat

import numpy as np
from scipy import stats as distributions

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.stats import Estimate, Floats
from forkpoint_clients.findings.catalog import fork_validity

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


@dataclass(frozen=True)
class Forks:
    """Positions of texts that are verified as forks: of `high` and of `low` entropy, and how alike those of a text are.

    A text with more forks of one kind has more of the other.
    """

    high: float
    low: float
    correlation: float = 0.15

    def verified(self, texts: int, random: np.random.Generator) -> tuple[Floats, Floats]:
        """1 for a fork, [texts, positions], of high and of low entropy."""
        rank, size = random.random((texts, 1)), 1 / self.correlation - 1

        def kind(share: float, count: int) -> Floats:
            shares = distributions.beta(share * size, (1 - share) * size).ppf(rank)
            return (random.random((texts, count)) < shares).astype(np.float64)

        return kind(self.high, fork_validity.HIGH), kind(self.low, fork_validity.LOW)

    @property
    def share_in_top(self) -> float:
        """The share of all forks that have a high entropy."""
        top = fork_validity.TOP * self.high
        return top / (top + (1 - fork_validity.TOP) * self.low)


@dataclass(frozen=True)
class ForkCoverage:
    """Shares of simulated runs whose interval covers the truth: of the difference, of the share of forks in the top
    fifth; and in which the difference excludes zero.
    """

    difference: float
    share_in_top: float
    found: float


SHARES = (0.03, 0.1, 0.3)


def verified_shares(texts: int, forks: Forks, repeats: int, seed: int = SEED) -> ForkCoverage:
    """Simulate `repeats` times what `fork-validity` finds in so many texts."""
    random, results = np.random.default_rng([seed, texts]), []
    for _ in range(repeats):
        tested = [
            fork_validity.TestedPosition(f"{text}", high, 0.0, bool(verified), 1.0)
            for high, kind in zip((True, False), forks.verified(texts, random), strict=True)
            for text, row in enumerate(kind)
            for verified in row
        ]
        difference, share = (claim.parts[0].estimate for claim in fork_validity.claims(tested))
        results.append(
            (
                _covers(difference, forks.high - forks.low),
                _covers(share, forks.share_in_top),
                difference.excludes_zero,
            )
        )
    return ForkCoverage(*(float(share) for share in np.mean(results, axis=0)))


def coverage(rounds: int) -> list[Listing]:
    """The tables of paired differences, and of verified forks."""
    repeats = rounds * PER_ROUND
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return [_paired(pool, repeats), _forks(pool, repeats)]


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


def _forks(pool: ProcessPoolExecutor, repeats: int) -> Listing:
    cells = list(product((0.01, 0.15, 0.3), SHARES, SHARES, (10, 24, 40)))
    worlds = [Forks(high, low, correlation) for correlation, high, low, _ in cells]
    measured = pool.map(verified_shares, [cell[3] for cell in cells], worlds, repeat(repeats))
    rows = [
        (f"{texts}", f"{high:g}", f"{low:g}", f"{correlation:g}", *_percents(astuple(one)))
        for (correlation, high, low, texts), one in zip(cells, measured, strict=True)
    ]
    heads = (
        "texts", "share of high", "share of low", "correlation", "difference covers", "share in top covers", "finds",
    )  # fmt: skip
    notes = (
        f"{repeats} simulated runs a row, seed {SEED}; finds: the 95 % interval of the difference excludes zero.",
        f"{fork_validity.HIGH} positions of high entropy in a text, and {fork_validity.LOW} of low.",
    )
    return Listing(
        "forks", "verified shares of high and low entropy, and the share of forks in the top", heads, rows, notes
    )


def _percents(shares: Sequence[float]) -> Iterator[str]:
    for share in shares:
        yield f"{100 * share:.1f} %"
