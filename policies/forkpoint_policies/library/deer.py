"""DEER: end the reasoning where a trial answer at a reflection word is confident."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="deer",
    description=(
        "At each reflection word in the reasoning, tries an answer of at most 20 tokens; ends the reasoning there when "
        "their mean probability is above 0.95."
    ),
    source="arXiv:2504.15895",
    caution=(
        "Compare with a plain cap at the same mean length (reasoning-cap) and with ends at random (deer.placebo). The "
        "tried answers cost tokens, which `usage` counts. The paper prompts for them before the end of the reasoning, "
        "with the `text` '\\n**Final Answer**\\n\\\\boxed'; here they come after it; without a `text`, what the model "
        "says first is tried, its result or not."
    ),
    rules=[
        {
            "when": {
                "previous": {"connectors": ["reflection", "alternative"]},
                "region": "reasoning",
                "at_most": param("trials"),
            },
            "do": {
                "probe": {"tokens": param("tokens"), "probability_above": param("probability"), "text": param("text")}
            },
        }
    ],
    parameters={
        "probability": Number(
            0.95, 0.0, 1.0, "mean probability of the tried answer's tokens above which the reasoning ends"
        ),
        "tokens": Number(20, 1, 256, "most tokens of a tried answer", whole=True),
        "trials": Number(10, 1, 1000, "most answers tried", whole=True),
        "text": Text("", "what is written after the end of the reasoning, to prompt for the answer", fewest=0),
    },
)
