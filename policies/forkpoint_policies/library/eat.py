"""EAT: end the reasoning when the entropy of what would come after it has settled."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="eat",
    description=(
        "At each blank line of the reasoning, takes the entropy of the token that would come after the end of the "
        "reasoning in its place; ends it when the exponential moving variance of these entropies is below a bound, "
        "after 27 of them at the earliest."
    ),
    source="arXiv:2509.26522; code: xidulu/EAT, compute_entropy_ngram.py and early_stopping_utils.py",
    caution=(
        "The bound depends on the model and on `text`: sweep it, and compare with reasoning-cap. The authors' code "
        "takes entropies in bits at temperature 0.6; here they are in nats at temperature 1. Its `min_distance` of 25 "
        "skips the first 26 values after the first. It chooses the end on a complete reasoning; here the "
        "reasoning ends there, at the same blank line. For R1-0528 it writes one newline as `text`, and with a prompt "
        "'\\nFinal answer: '. A model that writes no blank lines is never ended."
    ),
    compared=(
        "xidulu/EAT compute_entropy_ngram.py at 5638ef58a0 and early_stopping_utils.py at 93a46f7a8b, 2026-11-26: "
        "text before the entropy, steps, moving variance, 25 steps; differs: nats at temperature 1, the end is at the "
        "step that sufficed."
    ),
    rules=[
        {
            "when": {"previous": {"endings": ["\n\n"]}, "region": "reasoning"},
            "do": {
                "probe": {
                    "drop": "previous",
                    "before": "\n",
                    "text": param("text"),
                    "tokens": 1,
                    "variance_below": param("variance"),
                    "smoothing": param("smoothing"),
                    "fewest": param("fewest"),
                }
            },
        }
    ],
    parameters={
        "variance": Number(0.001, 0.0, 1000.0, "nats² below which the entropies have settled; to be swept"),
        "smoothing": Number(0.2, 0.001, 1.0, "weight of the latest entropy in the moving mean and variance"),
        "fewest": Number(27, 1, 1000, "entropies before which the reasoning continues", whole=True),
        "text": Text("\n\n", "what is written after the end of the reasoning, before the entropy is taken", fewest=0),
    },
)
