"""Self-certainty: independent answers, with more votes for those of which the model was surer."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="self-certainty",
    description=(
        "Samples 64 independent answers and ranks them by self-certainty, the mean divergence of their tokens' "
        "distributions from the uniform one; of n, the one at rank r has (n + 1 - r) ^ 0.5 votes."
    ),
    source="arXiv:2502.18581",
    caution=(
        "The server's --max-branches bounds the answers, 16 by default. A power of 0.5 is the authors' code's default; "
        "the best one depends on the number of answers, and 0 is the majority. Tokens that a grammar or a request "
        "forbids are left out of the uniform distribution. self-certainty.placebo returns one of the answers at random."
    ),
    compared=(
        "backprop07/Self-Certainty src/confidence_list.py at 10f47c7421 and src/voting_from_list.py at 68d3fea11d, "
        "2026-11-26: divergence from uniform, Borda votes, power 0.5, 64 answers; differs: forbidden tokens are left "
        "out."
    ),
    rules=[
        {
            "do": {
                "sample": {
                    "answers": param("answers"),
                    "select": "self-certainty",
                    "power": param("power"),
                    "extract": param("extract"),
                }
            }
        }
    ],
    parameters={
        "answers": Number(64, 1, 256, "answers", whole=True),
        "power": Number(0.5, 0.0, 100.0, "how much more the higher ranks weigh"),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
