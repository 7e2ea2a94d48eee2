"""Adaptive-Consistency: answers are sampled until it is probable that the one that leads is the majority's."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="adaptive-consistency",
    description=(
        "Samples answers one at a time, at most 40, until the one that leads has the majority with a probability of "
        "0.95, given the votes for it and for the second."
    ),
    source="arXiv:2305.11860",
    caution=(
        "One answer at a time takes as long as all of them; with `at_a_time` more run at once, and those beyond the "
        "point of stopping are thrown away. An answer without a result has no vote; the authors' code counts "
        "everything. `dirichlet` is computed exactly, by the authors' code from random samples."
    ),
    compared=(
        "Pranjal2041/AdaptiveConsistency stopping_criterias.py and main.py at 55bd00702e, 2026-11-26: the integral of "
        "Beta and of Dirichlet, 0.95, 40 answers; differs: an answer without a result has no vote, the Dirichlet "
        "integral is exact and over all answers, theirs over the 5 most frequent."
    ),
    rules=[
        {
            "do": {
                "sample": {
                    "answers": param("answers"),
                    "select": "majority",
                    "posterior_at": param("probability"),
                    "posterior": param("posterior"),
                    "at_a_time": param("at_a_time"),
                    "extract": param("extract"),
                }
            }
        }
    ],
    parameters={
        "answers": Number(40, 1, 256, "most answers", whole=True),
        "probability": Number(0.95, 0.01, 1.0, "posterior probability of the leading answer at which to stop"),
        "posterior": Text("beta", "`beta`: against the second answer; `dirichlet`: against each other one"),
        "at_a_time": Number(1, 1, 256, "answers that run at once", whole=True),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
