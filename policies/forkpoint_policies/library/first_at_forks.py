"""The first answer of a tree that is finished, with branches at the model's forks."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="first-at-forks",
    description=(
        "Branches at forks in the reasoning, and returns the answer that is finished first; the others are stopped."
    ),
    source="",
    caution=(
        "No paper reports this rule: decoding tree sketching is `branch-first`. The first answer to be finished is the "
        "shortest one: compare with `first-finish`, and with a plain cap at the same mean length."
    ),
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
