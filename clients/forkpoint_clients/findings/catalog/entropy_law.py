"""Does the share of right answers fall linearly in the exponential of the entropy?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result, Table
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import average, bootstrapped_together
from forkpoint_clients.findings.reading import ScoredChoices
from forkpoint_clients.findings.verdict import Claim, Criterion

TEMPERATURES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
TREATMENTS = {
    at: BASELINE if at == 1.0 else Treatment(f"temperature {at:g}", "observe", at, sampled_entropy=True)
    for at in TEMPERATURES
}
MIN_RANGE_NATS = 0.2
"""With less difference between the mean entropies of the runs, exp(H) changes by less than a fifth, and the slope is
not what decides who is right."""


async def retest(lab: Lab) -> Result:
    answers = await lab.ask(tuple(TREATMENTS.values()))
    return conclude({at: answers[treatment.name] for at, treatment in TREATMENTS.items()})


def conclude(answers: Mapping[float, Answers], alpha: float = ALPHA) -> Result:
    """`answers` by temperature."""
    temperatures = sorted(answers)
    sums, count = _sums([(at, answers[at]) for at in temperatures])
    if not count:
        return Result((), notes=("No question has an entropy at every temperature.",))
    _, nats = _points(np.ones(count) @ sums)

    def fitted(weights: Floats) -> tuple[float, float, float, float]:
        a, b, explained = fit(*_points(weights @ sums))
        return a, b, explained, b - a

    a, b, explained, ceiling = bootstrapped_together(fitted, count, alpha)
    span = float(nats.max() - nats.min())
    narrow = span < MIN_RANGE_NATS
    claim = Claim(
        "The share of right answers falls as exp(H) rises: a is above 0 in R = -a exp(H) + b.",
        "arXiv:2505.22617, over checkpoints of a training; here over temperatures",
        (Criterion("a", Estimate(a.value) if narrow else a, "above", 0.0, count, "number", alpha),),
    )
    marks = [(float(nats[number]), average(answers[at])) for number, at in enumerate(temperatures)]
    grid = np.linspace(0, float(nats.max()) * 1.05, 60)
    rows = tuple(
        (f"{at:g}", formatting.plain(float(nats[number]), 3), formatting.percent(marks[number][1]))
        for number, at in enumerate(temperatures)
    )
    return Result(
        (claim,),
        figures=(
            Figure("b", b, "number"),
            Figure("ceiling that the fit predicts, where entropy is 0 (b − a)", ceiling, "percent"),
            Figure(
                (
                    "share of the variance between the runs that the fit explains; chance within each run counts as "
                    "unexplained"
                ),
                explained,
                "percent",
            ),
            Figure(
                "range of the mean entropies",
                Estimate(span),
                "nats",
            ),
            Figure(f"measured at temperature {temperatures[0]:g}", marks[0][1], "percent"),
        ),
        tables=(Table("Runs", ("temperature", "mean entropy, nats", "right"), rows),),
        plots=(
            plots.law(
                "entropy-law",
                f"Each mark is a temperature, from {temperatures[0]:g} to {temperatures[-1]:g}; the curve is the fit.",
                marks,
                grid,
                b.value - a.value * np.exp(grid),
                "mean entropy, nats",
            ),
        ),
        notes=(
            *(
                [f"The mean entropies span {span:.3f} nats, less than {MIN_RANGE_NATS:g}: too little for a verdict."]
                if narrow
                else []
            ),
            (
                "The published law describes a model during training. Here the temperature moves the entropy of a "
                "single model: a weaker test, which can refute the law only for this use."
            ),
        ),
    )


def _sums(answers: list[tuple[float, Answers]]) -> tuple[Floats, int]:
    """Summed scores, answers, summed nats and tokens at each temperature, [questions, 4 * temperatures]; and the
    questions.
    """
    by_question: list[dict[str, list[ScoredChoices]]] = []
    for _, run in answers:
        grouped: dict[str, list[ScoredChoices]] = defaultdict(list)
        for (question, _), scored in run.items():
            if scored.score is not None:
                grouped[question].append(scored)
        by_question.append(grouped)
    rows = {}
    for question in by_question[0]:
        row: list[list[float]] = []
        for (at, _), grouped in zip(answers, by_question, strict=True):
            here = grouped.get(question, [])
            entropy = "mean_entropy" if at == 1.0 else "sampled_entropy"
            summaries = [(scored.answer.forkpoint or {}, scored.tokens) for scored in here]
            known = [(float(summary[entropy]), size) for summary, size in summaries if summary.get(entropy) is not None]
            if known:
                scores = sum(scored.score or 0.0 for scored in here)
                nats = sum(value * size for value, size in known)
                row.append([scores, len(here), nats, sum(size for _, size in known)])
        if len(row) == len(answers):
            rows[question] = np.array(row).T.ravel()
    return (np.array([rows[name] for name in sorted(rows)]) if rows else np.zeros((0, 4 * len(answers)))), len(rows)


def _points(sums: Floats) -> tuple[Floats, Floats]:
    scores, count, nats, tokens = sums.reshape(4, -1)
    return scores / count, nats / tokens


def fit(right: Floats, nats: Floats) -> tuple[float, float, float]:
    """a, b and the explained share of the variance of R = -a exp(H) + b: least squares over [temperatures]."""
    across, up = np.exp(nats) - np.exp(nats).mean(), right - right.mean()
    spread, total = float(across @ across), float(up @ up)
    if not spread:
        return float("nan"), float("nan"), float("nan")
    slope = float(across @ up) / spread
    explained = slope * slope * spread / total if total else float("nan")
    return -slope, float(right.mean()) - slope * float(np.exp(nats).mean()), explained


FINDING = Finding(
    name="entropy-law",
    question="Does the share of right answers fall with the exponential of the entropy?",
    claim="R = -a exp(H) + b: performance is bought with entropy, and where entropy is used up a ceiling is reached.",
    source="arXiv:2505.22617",
    protocol=(
        f"Answers at temperatures {', '.join(f'{at:g}' for at in TEMPERATURES)}. H is the mean entropy of the "
        "distributions that were sampled from, at that temperature, estimated by the surprise of the sampled tokens "
        "(exact at temperature 1). Fitted by least squares; intervals by bootstrap over questions. The verdict is on "
        f"the slope; there is none if the mean entropies differ by less than {MIN_RANGE_NATS:g} nats."
    ),
    retest=retest,
)
