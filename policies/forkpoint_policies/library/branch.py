"""EAGer: branch where the model is unsure, and nowhere else."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="branch",
    description=(
        "Where the entropy is high, goes on with another likely token as well, until the request has its `n` answers."
    ),
    source="arXiv:2510.11170",
    caution=(
        "64 % fewer tokens and 12 % more pass@k are claimed. Branches of one tree are alike: compare with independent "
        "samples of as many tokens, and with branches at random positions (branch.placebo)."
    ),
    rules=[
        {
            "when": {"entropy_above": param("entropy"), "region": "reasoning"},
            "do": {"branch": {"width": param("width"), "min_gap": param("min_gap"), "depth": param("depth")}},
        }
    ],
    parameters={
        "entropy": Number("fork", 0.0, 50.0, "nats above which to branch; 2.0 to 2.4 in the paper", other="fork"),
        "width": Number(1, 1, 16, "other tokens tried at a fork", whole=True),
        "min_gap": Number(1, 1, 100_000, "fewest tokens between two forks of a path", whole=True),
        "depth": Number(1000, 1, 1000, "most forks on a path", whole=True),
    },
)
