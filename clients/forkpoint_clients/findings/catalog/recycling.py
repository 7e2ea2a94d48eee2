"""Does running a layer again at thinking words help, and more than at other tokens?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.arm_table import Column, arm_table
from forkpoint_clients.findings.base import Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import average, fired, paired, questions_of, rarer
from forkpoint_clients.findings.verdict import Claim, Criterion

RECYCLE, PLACEBO = "recycle", "recycle.placebo"
AUTHORS_LAYER = 23
"""Of the 32 of DeepSeek-R1-Distill-Llama-8B."""


def layer_of(layers: Sequence[int]) -> int:
    """The authors' layer if the server can run it again, otherwise the last one that it can."""
    return AUTHORS_LAYER if AUTHORS_LAYER in layers else max(layers)


def treatments(layer: int) -> tuple[Treatment, ...]:
    """`recycle` and its placebo, at a layer."""
    return tuple(Treatment(name, {"use": name, "with": {"layer": layer}}) for name in (RECYCLE, PLACEBO))


async def retest(lab: Lab) -> Result:
    layer = layer_of(await lab.recycle_layers())
    return conclude(await lab.ask((BASELINE, *treatments(layer))), layer)


def conclude(answers: Mapping[str, Answers], layer: int, alpha: float = ALPHA) -> Result:
    base, own, placebo = (answers[name] for name in (BASELINE.name, RECYCLE, PLACEBO))
    count, level = questions_of(base), alpha / 2
    claim = Claim(
        "Reading thinking words with a layer run twice gives more right answers, and more than other tokens do.",
        "arXiv:2506.02867: about 20% more right answers on AIME 24",
        tuple(
            Criterion(f"{RECYCLE} less {name}", paired(own, other, alpha=level), "above", 0.0, count, "points", level)
            for name, other in (("no policy", base), ("its placebo", placebo))
        ),
    )
    differences = {name: paired(answers[name], base) for name in (RECYCLE, PLACEBO)}
    table = arm_table(
        f"Tokens read with layer {layer} run twice",
        answers,
        differences,
        (Column("times run again", lambda own: formatting.number(average(own, fired)), of_baseline=False),),
    )
    return Result(
        (claim,),
        tables=(table,),
        plots=(
            plots.intervals(
                "recycling", "Right answers, less those of no policy.", differences, "difference, points", 100
            ),
        ),
        notes=(
            (
                "The authors run the layer again where the word is about to be drawn, so that another may be drawn. "
                "Here the word is drawn and read with the second pass: a variant, one position later."
            ),
            *rarer(answers, {PLACEBO: RECYCLE}),
        ),
    )


FINDING = Finding(
    name="recycling",
    question="Does running a layer again at thinking words help, and more than at other tokens?",
    claim="Hidden states at thinking words say most about the answer; running a layer again there reasons better.",
    source="arXiv:2506.02867",
    protocol=(
        "`recycle` runs a layer a second time for half of the thinking words of the reasoning: layer 23, the authors', "
        "if the server has it among its --recycle-layers, otherwise their last. Its placebo does so for as many tokens "
        "at random positions. Both beside no policy; paired by question and seed."
    ),
    retest=retest,
)
