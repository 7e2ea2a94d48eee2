"""Ends the reasoning when what the model would say after it no longer changes: guesses at regular intervals."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="guess-agreement",
    description=(
        "Every 64 tokens of the reasoning, takes what the model would say after its end; ends the reasoning after 10 "
        "equal ones in a row."
    ),
    source="",
    caution=(
        "No publication's: what answer-convergence was here before 0.2, for models that write no sentences or boxes. "
        "Compare with reasoning-cap; the guesses cost tokens, which `usage` counts. Give a `text` that requests the "
        "result where the model does not begin with it: else the words before it are compared."
    ),
    rules=[
        {
            "when": {"every": param("every"), "after_token": 1, "region": "reasoning"},
            "do": {
                "probe": {
                    "tokens": param("tokens"),
                    "agreement": param("equal"),
                    "extract": param("extract"),
                    "text": param("text"),
                }
            },
        }
    ],
    parameters={
        "every": Number(64, 1, 100_000, "tokens from one guess to the next", whole=True),
        "equal": Number(10, 2, 1000, "equal guesses in a row after which the reasoning ends", whole=True),
        "tokens": Number(32, 1, 256, "most tokens of a guess", whole=True),
        "extract": Text("text", "what of two guesses is compared: an extractor"),
        "text": Text("", "what is written after the end of the reasoning, to prompt for the answer", fewest=0),
    },
)
