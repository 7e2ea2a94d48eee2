"""Decoding tree sketching: the first answer of a tree that is finished."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="branch-first",
    description=(
        "Branches where the entropy is high, and returns the answer that is finished first; the others are stopped."
    ),
    source="arXiv:2511.00640",
    caution="The first answer to be finished is the shortest one: compare with a plain cap at the same mean length.",
    rules=[
        {
            "when": {"entropy_above": param("entropy"), "region": "reasoning"},
            "do": {"branch": {"select": "first", "max_branches": param("branches")}},
        }
    ],
    parameters={
        "entropy": Number("fork", 0.0, 50.0, "nats above which to branch", other="fork"),
        "branches": Number(8, 1, 256, "most answers of the tree", whole=True),
    },
)
