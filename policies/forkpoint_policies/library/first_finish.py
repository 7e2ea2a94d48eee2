"""First Finish Search: of independent answers, the one that is finished first."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="first-finish",
    description="Starts 4 independent answers at once and returns the one that is finished first; the others stop.",
    source="arXiv:2505.18149",
    caution=(
        "How many answers start is only a default [unconfirmed]. This is the control of branch-first: the first to be "
        "finished is the shortest, whether it comes from a tree or not. first-finish.placebo chooses at random."
    ),
    compared="paper only, 2026-11-26: the first that ends; differs: 4 answers is ours.",
    rules=[
        {
            "do": {
                "sample": {
                    "answers": param("answers"),
                    "select": "majority",
                    "first": param("m"),
                    "first_by": "text",
                    "extract": param("extract"),
                }
            }
        }
    ],
    parameters={
        "answers": Number(4, 1, 256, "answers that start at once", whole=True),
        "m": Number(1, 1, 256, "answers that have a vote: with more than one, what most of them say", whole=True),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
