"""ThinkBrake: end the reasoning when the model would almost."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="think-brake",
    description=(
        "At the end of a sentence, ends the reasoning if that is at most `within` nats less likely than any token."
    ),
    source="arXiv:2510.00546",
    caution="Ends early by design: compare with a plain cap at the same mean length. Sweep 0.1 to 2.",
    parameters={"within": Number(0.5, 0, 50, "ln p_max - ln p(end of reasoning), in nats")},
    rules=[
        {
            "when": {
                "region": "reasoning",
                "previous": {"endings": [".", "!", "?", "\n"]},
                "end_of_reasoning_within": param("within"),
            },
            "do": {"end_reasoning": {}},
        }
    ],
)
