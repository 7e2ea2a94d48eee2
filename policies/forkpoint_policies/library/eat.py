"""EAT: end the reasoning when the entropy of what would come after it has settled."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="eat",
    description=(
        "At each line end of the reasoning, takes the entropy of the token that would come after the end of the "
        "reasoning; ends it when the exponential moving variance of these entropies is below a bound, after 25 lines "
        "at the earliest."
    ),
    source="arXiv:2509.26522",
    caution=(
        "The bound depends on the model and on the text after the marker, where the authors tried none and 'Final "
        "answer: ': sweep it, and compare with reasoning-cap. A model that writes no lines is never ended."
    ),
    rules=[
        {
            "when": {"previous": {"endings": ["\n"]}, "region": "reasoning"},
            "do": {
                "probe": {
                    "tokens": 1,
                    "variance_below": param("variance"),
                    "smoothing": param("smoothing"),
                    "fewest": param("fewest"),
                    "text": param("text"),
                }
            },
        }
    ],
    parameters={
        "variance": Number(0.001, 0.0, 1000.0, "nats² below which the entropies have settled; to be swept"),
        "smoothing": Number(0.2, 0.001, 1.0, "weight of the latest entropy in the moving mean and variance"),
        "fewest": Number(25, 1, 1000, "line ends before which the reasoning goes on", whole=True),
        "text": Text("", "what is written after the end of the reasoning, before the entropy is taken", fewest=0),
    },
)
