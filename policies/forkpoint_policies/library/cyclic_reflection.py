"""A wave of more and less reflection."""

from ._entry import Entry, Number, param

WORDS = ("wait", "but", "alternatively")

ENTRY = Entry(
    name="cyclic-reflection",
    description="Adds a triangular wave of the position to the logits of reflection words, until the reasoning ends.",
    source="arXiv:2506.11077",
    caution="One paper, few models; the wave's phase starts at the first generated token.",
    parameters={
        "amplitude": Number(5.0, 0.01, 100, "the wave's height, in logits"),
        "period": Number(1200, 4, 1_000_000, "the wave's length, in tokens", whole=True),
    },
    rules=[
        {
            "when": {"region": "reasoning"},
            "do": {
                "amplify": {
                    "words": WORDS,
                    "bias": {"shape": "triangular", "amplitude": param("amplitude"), "period": param("period")},
                }
            },
        }
    ],
)
