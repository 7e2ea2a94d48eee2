"""Reasoning models know when they're right: end the reasoning where a readout of the hidden state says so."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="know-when-right",
    description=(
        "At each end of a sentence or paragraph of the reasoning, reads from the last layer's state the probability "
        "that the answer will be right; ends the reasoning where it is above `threshold`."
    ),
    source="arXiv:2504.05419; code: AngelaZZZ-611/reasoning_models_probing",
    caution=(
        "Needs a readout of the served model by the name `correct`, or the one that `readout` names: the embedded "
        "model has one, for others `forkpoint readout fit` makes one. Without it, requests are rejected. 24% fewer "
        "tokens are claimed, by the authors alone. Long answers are wrong more often, so a readout that only counts "
        "tokens separates right from wrong, too: compare it with the position of the token, which `forkpoint readout "
        "fit` prints, and the policy with reasoning-cap and with ends at random (know-when-right.placebo). A full stop "
        "inside a number ends a sentence here."
    ),
    compared=(
        "AngelaZZZ-611/reasoning_models_probing README.md at 8ab9aff031, 2026-11-27: a probe of the hidden state at "
        "the ends of steps, and the paper's threshold of 0.85; differs: the early exit is from the paper, the "
        "repository has none; steps there are paragraphs, merged until they have an answer, which Gemini labels; here "
        "any sentence, and the readout's own labels."
    ),
    rules=[
        {
            "when": {
                "readout_above": {"name": param("readout"), "value": param("threshold")},
                "previous": {"endings": [".", "\n\n"]},
                "region": "reasoning",
            },
            "do": {"end_reasoning": {}},
        }
    ],
    parameters={
        "readout": Text("correct", "the readout: the probability that the answer will be right"),
        "threshold": Number(0.85, 0.0, 1.0, "the reasoning ends where the probability is above this"),
    },
)
