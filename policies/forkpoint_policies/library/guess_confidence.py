"""Ends the reasoning where what the model would say after it is confident: guesses at reflection words."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="guess-confidence",
    description=(
        "At each reflection word in the reasoning, takes what the model would say after its end, at most 20 tokens; "
        "ends the reasoning there when their mean probability is above 0.95."
    ),
    source="",
    caution=(
        "No publication's: what deer was here before 0.2, for models that write no boxes. Compare with reasoning-cap. "
        "The guesses cost tokens, which `usage` counts; without a `text`, what the model says first is tried, its "
        "result or not."
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
        "probability": Number(0.95, 0.0, 1.0, "mean probability of the guess's tokens above which the reasoning ends"),
        "tokens": Number(20, 1, 256, "most tokens of a guess", whole=True),
        "trials": Number(10, 1, 1000, "most guesses", whole=True),
        "text": Text("", "what is written after the end of the reasoning, to prompt for the answer", fewest=0),
    },
)
