"""Answer convergence: end the reasoning when the answer no longer changes."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="answer-convergence",
    description="Every 64 tokens of the reasoning, tries an answer; ends the reasoning after 10 equal ones in a row.",
    source="arXiv:2506.02536",
    caution=(
        "The number of equal answers could not be confirmed from the paper, which tries an answer after each sentence. "
        "Compare with reasoning-cap; the tried answers cost tokens, which `usage` counts. Give a `text` that requests "
        "the result where the model does not begin with it: else the words before it are compared."
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
        "every": Number(64, 1, 100_000, "tokens from one tried answer to the next", whole=True),
        "equal": Number(10, 2, 1000, "equal answers in a row after which the reasoning ends", whole=True),
        "tokens": Number(32, 1, 256, "most tokens of a tried answer", whole=True),
        "extract": Text("text", "what of two answers is compared: an extractor"),
        "text": Text("", "what is written after the end of the reasoning, to prompt for the answer", fewest=0),
    },
)
