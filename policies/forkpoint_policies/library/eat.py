"""EAT: end the reasoning when the entropy of what would come after it has settled."""

from ._entry import Entry, Number, Text, given

ENTRY = Entry(
    name="eat",
    description=(
        "At each line end of the reasoning, takes the entropy of the token that would come after the end of the reasoning; ends it "
        "when the exponential moving variance of these entropies is below a bound."
    ),
    source="arXiv:2509.26522",
    caution="The bound depends on the model and on the text after the marker: sweep it, and compare with reasoning-cap.",
    rules=[
        {
            "when": {"previous": {"endings": ["\n"]}, "region": "reasoning"},
            "do": {
                "probe": {
                    "tokens": 1,
                    "variance_below": given("variance"),
                    "smoothing": given("smoothing"),
                    "text": given("text"),
                }
            },
        }
    ],
    parameters={
        "variance": Number(0.001, 0.0, 1000.0, "nats² below which the entropies have settled; to be swept"),
        "smoothing": Number(0.2, 0.001, 1.0, "weight of the latest entropy in the moving mean and variance"),
        "text": Text("", "what is written after the end of the reasoning, before the entropy is taken", fewest=0),
    },
)
