"""Think Just Enough: end the reasoning after a step whose mean entropy is low."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="think-just-enough",
    description=(
        "At each blank line of the reasoning, takes the mean over the step's tokens of the entropy, in bits, of the "
        "20 likeliest tokens, renormalised; ends the reasoning where it is at most `bits`."
    ),
    source="arXiv:2510.08146v3 (Sharma and Chopra)",
    caution=(
        "The formula is the paper's: top 20, softmax over them, log2, the mean over a step's tokens, H <= tau. The "
        "authors published no code that could be found, and what bounds a step is [unconfirmed]: the paper takes a "
        "whole completion of its model for one, here a step ends at a blank line of the reasoning. Its tau is "
        "calibrated for each model from a few questions that it answers right: their mean entropy, or a bound from "
        "their mean, spread and Cohen's d. The default 0.5 is no value of theirs [unconfirmed]: calibrate it, and "
        "compare with reasoning-cap and with ends at random (think-just-enough.placebo). Entropies are of the model's "
        "distribution at temperature 1. A model that writes no blank lines is never ended."
    ),
    compared=("paper only, 2026-11-26: top 20, bits, mean over a step; differs: what bounds a step is unconfirmed."),
    rules=[
        {
            "when": {"previous": {"endings": ["\n\n"]}, "region": "reasoning"},
            "do": {"probe": {"step_entropy_bits_at_most": param("bits")}},
        }
    ],
    parameters={
        "bits": Number(0.5, 0.0, 4.33, "tau: the mean entropy of a step at which the reasoning ends; calibrate it"),
    },
)
