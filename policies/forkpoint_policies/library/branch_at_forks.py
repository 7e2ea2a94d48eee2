"""Branches at the model's forks."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="branch-at-forks",
    description=(
        "At forks in the reasoning, continues with another likely token as well, until the request has its `n` answers."
    ),
    source="",
    caution=(
        "No paper reports this rule: EAGer's is `branch`, with a higher bound. Branches of one tree are alike: compare "
        "with independent samples of as many tokens, and with branches at random positions (branch-at-forks.placebo)."
    ),
    rules=[
        {
            "when": {"entropy_above": param("entropy"), "region": "reasoning"},
            "do": {"branch": {"width": param("width"), "min_gap": param("min_gap"), "depth": param("depth")}},
        }
    ],
    parameters={
        "entropy": Number("fork", 0.0, 50.0, "nats above which to branch", other="fork"),
        "width": Number(1, 1, 16, "other tokens tried at a fork", whole=True),
        "min_gap": Number(1, 1, 100_000, "fewest tokens between two forks of a path", whole=True),
        "depth": Number(1000, 1, 1000, "most forks on a path", whole=True),
    },
)
