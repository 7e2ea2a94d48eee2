"""Is the effective rank of hidden states independent of the entropy, and does it move with being right?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Plot, Result, Table
from forkpoint_clients.findings.lab import Answers, Lab, Treatment
from forkpoint_clients.findings.measures import bootstrapped, clustered
from forkpoint_clients.findings.reading import traces
from forkpoint_clients.findings.verdict import Claim, Criterion

WINDOW, STRIDE = 64, 16
"""The number of tokens whose states a rank is of, and from one rank to the next."""

WATCHED = Treatment("rank-watch", {"use": "rank-watch", "with": {"window": WINDOW, "stride": STRIDE}}, traced=True)

SIGNALS = {
    "effective rank": "effective_rank",
    "its velocity": "effective_rank_velocity",
    "its acceleration": "effective_rank_acceleration",
}
"""What a signal is called in reports and in traces."""

FEWEST_RANKS = 3
"""A text with fewer has no acceleration."""

FEWEST_TOKENS = WINDOW + (FEWEST_RANKS - 1) * STRIDE
NEAR_ZERO = 0.2
"""Correlations within this of 0 count as none: less than 4% of the variance in common."""

ALL, EQUAL = "means of answers", "at equal length"
RIGHT_FROM = 0.5
TENTHS = 10
FEWEST_TEXTS = 5
"""A mean over texts is drawn from this many on."""


@dataclass(frozen=True)
class RankedText:
    """The ranks of a text of `length` tokens, in order: `signals` [ranks, 3] as in SIGNALS, NaN before they are known,
    and the mean `entropies` [ranks] of each rank's own window, in nats.
    """

    question: str
    right: bool
    length: int
    signals: Floats
    entropies: Floats

    @property
    def ranks(self) -> Floats:
        """[ranks]"""
        return self.signals[:, 0]

    @property
    def means(self) -> Floats:
        """[3], each over the ranks at which it is known."""
        found: Floats = np.nanmean(self.signals, axis=0)
        return found


@dataclass(frozen=True)
class Texts:
    """Texts of `count` questions; of each text, both [texts], the number of its question, and whether it is right."""

    texts: Sequence[RankedText]
    question: NDArray[np.intp]
    count: int
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, texts: Sequence[RankedText]) -> Texts:
        names, question = np.unique([text.question for text in texts], return_inverse=True)
        right = np.array([text.right for text in texts], np.bool_)
        return cls(texts, question, len(names), right)


async def retest(lab: Lab) -> Result:
    return conclude((await lab.ask([WATCHED]))[WATCHED.name])


def conclude(answers: Answers, alpha: float = ALPHA) -> Result:
    """The result of the traced answers under `rank-watch`."""
    found = list(ranked(answers))
    if not found:
        return Result((), notes=(f"No scored answer has a whole trace of at least {FEWEST_TOKENS} tokens with ranks.",))
    sample, level, third = Texts.of(found), alpha / 2, alpha / len(SIGNALS)
    with_entropy = [np.column_stack([text.ranks, text.entropies]) for text in found]
    decoupled = Claim(
        "Over answers, the mean effective rank and its mean velocity are nearly uncorrelated.",
        "arXiv:2509.23808, of responses of DeepSeek-R1-Distill-Qwen-7B, with ranks of the whole text so far",
        near_zero(
            "correlation of rank and velocity, over answers",
            correlation(sample, [text.means[None, :2] for text in found], level, centred=False),
            sample.count,
            level,
        ),
    )
    independent = Claim(
        "Within a text, the effective rank moves independently of the entropy.",
        "our own, after arXiv:2509.23808, which sets the rank against measures of single tokens",
        near_zero(
            f"correlation of the rank of {WINDOW} states with the mean entropy there, within texts",
            correlation(sample, with_entropy, level),
            sample.count,
            level,
        ),
        own=True,
    )
    means = np.array([text.means for text in found])
    spread = np.nanstd(np.concatenate([text.signals for text in found]), axis=0)
    spread[spread == 0] = np.nan
    equal = {
        name: right_less_wrong(sample, [text.signals[:, at] / spread[at] for text in found], third)
        for at, name in enumerate(SIGNALS)
    }
    plain = {name: right_less_wrong(sample, list(means[:, at, None] / spread[at])) for at, name in enumerate(SIGNALS)}
    moves = Claim(
        "At equal length, right answers have a higher effective rank, velocity and acceleration than wrong ones.",
        "our own, after arXiv:2509.23808, which rewards them in training",
        tuple(
            Criterion(
                f"{name}, right less wrong at equal length, in standard deviations",
                equal[name],
                "above",
                0.0,
                sample.count,
                "number",
                third,
            )
            for name in SIGNALS
        ),
        headline=False,
        own=True,
    )
    return Result(
        (decoupled, independent, moves),
        figures=(
            Figure(
                "correlation of rank and entropy within texts, without what both drift along the text",
                correlation(sample, [without_drift(pairs) for pairs in with_entropy]),
                "number",
            ),
            Figure(
                "correlation of velocity and entropy, within texts",
                correlation(sample, [np.column_stack([text.signals[1:, 1], text.entropies[1:]]) for text in found]),
                "number",
            ),
            Figure(
                "correlation of mean rank and mean entropy, over answers",
                correlation(sample, [pairs.mean(axis=0)[None] for pairs in with_entropy], centred=False),
                "number",
            ),
        ),
        tables=(_means(sample, means),),
        plots=tuple(_plots(found, with_entropy, plain, equal)),
        notes=tuple(_notes(answers, sample)),
    )


def ranked(answers: Answers) -> Iterator[RankedText]:
    """The scored answers with a whole trace and at least FEWEST_RANKS ranks, of the reasoning if there is one: how an
    answer is written down at the end must not count.

    An answer whose window began again after a preemption is left out.
    """
    for key, scored in answers.items():
        for trace in traces({key: scored}):
            at = np.arange(WINDOW - 1, len(trace.tokens), STRIDE)
            if trace.in_reasoning.any():
                at = at[trace.in_reasoning[at]]
            if scored.score is None or len(at) < FEWEST_RANKS or not trace.hidden:
                continue
            signals = np.column_stack([trace.hidden[signal][at] for signal in SIGNALS.values()])
            if all(np.isfinite(signals[first:, first]).all() for first in range(len(SIGNALS))):
                sums = np.concatenate([[0.0], np.cumsum(trace.entropies)])
                entropies = (sums[at + 1] - sums[at + 1 - WINDOW]) / WINDOW
                yield RankedText(trace.question, scored.score >= RIGHT_FROM, len(trace.tokens), signals, entropies)


def near_zero(what: str, found: Estimate, count: int, alpha: float) -> tuple[Criterion, Criterion]:
    """The criteria that a correlation is within NEAR_ZERO of 0, both of one interval."""
    return (
        Criterion(what, found, "above", -NEAR_ZERO, count, "number", alpha),
        Criterion(what, found, "below", NEAR_ZERO, count, "number", alpha),
    )


def correlation(sample: Texts, pairs: Sequence[Floats], alpha: float = ALPHA, centred: bool = True) -> Estimate:
    """The correlation of pairs [n, 2] of each text, of all texts together: around each text's own means if `centred`,
    else around those of all texts.
    """
    sums = np.zeros((sample.count, 6))
    for question, pair in zip(sample.question, pairs, strict=True):
        x, y = (pair - pair.mean(axis=0) if centred else pair).T
        sums[question] += len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y
    return bootstrapped(lambda weights: _correlation(weights @ sums), sample.count, alpha)


def _correlation(sums: Floats) -> float:
    number, x, y, xx, yy, xy = sums
    spread, other = xx - x * x / number, yy - y * y / number
    return float((xy - x * y / number) / np.sqrt(spread * other)) if spread > 0 and other > 0 else float("nan")


def without_drift(pairs: Floats) -> Floats:
    """Pairs [n, 2] of one text less their lines along the text."""
    position = np.column_stack([np.ones(len(pairs)), np.arange(len(pairs))])
    found: Floats = pairs - position @ np.linalg.lstsq(position, pairs)[0]
    return found


def right_less_wrong(sample: Texts, values: Sequence[Floats], alpha: float = ALPHA) -> Estimate:
    """The mean of values [ranks] of each right answer less that of the wrong ones at the same place in their texts.

    Places are weighted as least squares does with a mean for each; those that only one kind reaches do not count.
    """
    # the sum and number at each place, [questions, places, wrong or right, 2]
    sums = np.zeros((sample.count, max(map(len, values)), 2, 2))
    for question, right, own in zip(sample.question, sample.right.astype(np.intp), values, strict=True):
        known = np.flatnonzero(np.isfinite(own))
        sums[question, known, right] += np.column_stack([own[known], np.ones(len(known))])
    return bootstrapped(lambda weights: _difference(np.einsum("q,qpkn->pkn", weights, sums)), sample.count, alpha)


def _difference(sums: Floats) -> float:
    """Of sums and numbers [places, wrong or right, 2]."""
    (wrong, wrongs), (right, rights) = sums[sums[:, :, 1].min(axis=1) > 0].transpose(1, 2, 0)
    weights = rights * wrongs / (rights + wrongs)
    return float(weights @ (right / rights - wrong / wrongs) / weights.sum()) if len(weights) else float("nan")


def by_entropy(texts: Sequence[RankedText], pairs: Sequence[Floats]) -> Iterator[tuple[float, Estimate]]:
    """The mean entropy and the mean rank in each tenth of the entropies, of pairs [n, 2] of rank and entropy: both less
    their text's means, plus those of all texts."""
    means = np.concatenate(pairs).mean(axis=0)
    ranks, nats = np.concatenate([pair - pair.mean(axis=0) + means for pair in pairs]).T
    owners = np.repeat([text.question for text in texts], [len(pair) for pair in pairs])
    tenth = np.searchsorted(np.quantile(nats, np.arange(1, TENTHS) / TENTHS), nats)
    for number in np.unique(tenth):
        inside = tenth == number
        yield float(nats[inside].mean()), clustered(ranks[inside], owners[inside])


def along(texts: Sequence[RankedText]) -> Iterator[tuple[float, Estimate]]:
    """The mean rank of the texts that reach so many tokens."""
    for number in range(max((len(text.ranks) for text in texts), default=0)):
        here = [text for text in texts if len(text.ranks) > number]
        if len(here) >= FEWEST_TEXTS:
            ranks = [float(text.ranks[number]) for text in here]
            yield float(_tokens(number + 1)), clustered(ranks, [text.question for text in here])


def _means(sample: Texts, means: Floats) -> Table:
    lengths = np.array([text.length for text in sample.texts], np.float64)
    columns = {**dict(zip(SIGNALS, means.T, strict=True)), "tokens": lengths}
    equal = {
        name: formatting.number(right_less_wrong(sample, [text.signals[:, at] for text in sample.texts]))
        for at, name in enumerate(SIGNALS)
    }
    rows = tuple(
        (
            name,
            formatting.number(clustered(values[sample.right], sample.question[sample.right])),
            formatting.number(clustered(values[~sample.right], sample.question[~sample.right])),
            formatting.number(right_less_wrong(sample, list(values[:, None]))),
            equal.get(name, ""),
        )
        for name, values in columns.items()
    )
    return Table("Means of answers", ("mean", "right", "wrong", "right less wrong", EQUAL), rows)


def _plots(
    texts: Sequence[RankedText],
    with_entropy: Sequence[Floats],
    plain: Mapping[str, Estimate],
    equal: Mapping[str, Estimate],
) -> Iterator[Plot]:
    yield plots.intervals(
        "effective-rank",
        "Right answers less wrong ones, in standard deviations over all ranks.",
        {f"{name}, {what}": of[name] for name in SIGNALS for what, of in ((ALL, plain), (EQUAL, equal))},
        "right less wrong, standard deviations",
    )
    yield plots.curves(
        "effective-rank-entropy",
        f"Effective rank by the mean entropy of the same {WINDOW} tokens, both around their text's own means.",
        {"rank": list(by_entropy(texts, with_entropy))},
        "mean entropy, nats",
        "effective rank",
        line="bars",
    )
    yield plots.curves(
        "effective-rank-along",
        "Mean effective rank along the text, of answers that are right in the end and of wrong ones, where at least "
        f"{FEWEST_TEXTS} reach so far.",
        {
            "right": list(along([text for text in texts if text.right])),
            "wrong": list(along([text for text in texts if not text.right])),
        },
        "tokens",
        "effective rank",
    )


def _tokens(ranks: int) -> int:
    """The number of tokens with so many ranks."""
    return WINDOW + (ranks - 1) * STRIDE if ranks else 0


def _notes(answers: Answers, sample: Texts) -> Iterator[str]:
    yield (
        f"{len(sample.texts)} of {len(answers)} answers, {int(sample.right.sum())} of them right, have a score and at "
        f"least {FEWEST_TOKENS} tokens: a rank needs {WINDOW}, and an acceleration {FEWEST_RANKS} ranks."
    )
    reached = [
        max((len(text.ranks) for text in sample.texts if text.right == kind), default=0) for kind in (True, False)
    ]
    yield (
        f"Equal length: ranks are compared after the same number of tokens, up to {_tokens(min(reached))}, which right "
        "and wrong answers reach. Means of whole answers say little: wrong answers are longer, and velocities and "
        "accelerations depend on how long a text is so far."
    )
    yield (
        "The paper measures the rank of the whole text so far, which grows with its length. Here windows have one "
        "length, so that the correlation of rank and velocity is of other numbers than the paper's."
    )


FINDING = Finding(
    name="effective-rank",
    question="Is the effective rank of hidden states independent of the entropy, and does it move with being right?",
    claim=(
        "Effective rank measures exploration and its velocity exploitation; both are independent of each other, where "
        "measures of single tokens are not."
    ),
    source="arXiv:2509.23808",
    protocol=(
        "Answers at temperature 1 under `rank-watch`, which changes nothing: the effective rank of the last layer's "
        f"states at the latest {WINDOW} tokens, every {STRIDE} tokens; its velocity is the rank less the mean of the "
        "earlier ones, its acceleration the change of the velocity. Each rank is compared with the mean entropy of the "
        f"same {WINDOW} tokens, around the means of the text. A correlation within {NEAR_ZERO:g} of 0 counts as none. "
        f"An answer is right from a score of {RIGHT_FROM:g} on. At equal length, right and wrong answers are compared "
        "after the same number of tokens. Of answers with a reasoning, the ranks are those that end in it."
    ),
    retest=retest,
)
