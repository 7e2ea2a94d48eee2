"""EAGer-init: branch where the likeliest tokens are uncertain, and nowhere else."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="branch",
    description=(
        "Where the entropy of the 20 likeliest tokens is above 2.0, continues with another likely token as well, until "
        "the request has its `n` answers."
    ),
    source="arXiv:2510.11170",
    caution=(
        "This is EAGer-init only: the budget that one prompt saves is not moved to others, from which the paper's "
        "gains come. Its README has 2.0 for EAGer-init, and up to 2.4; how many of the likeliest tokens count is "
        "[unconfirmed]. Branches of one tree are alike: compare with independent samples of as many tokens, and with "
        "branches at random positions (branch.placebo), as often as the entropy of all tokens is above the bound."
    ),
    compared=(
        "paper only, 2026-11-26: entropy of the likeliest tokens, bounds 2.0 to 2.4; differs: EAGer-init only, how "
        "many tokens count is unconfirmed."
    ),
    rules=[
        {
            "when": {"entropy_above": param("entropy")},
            "do": {
                "branch": {
                    "width": param("width"),
                    "min_gap": param("min_gap"),
                    "depth": param("depth"),
                    "top_entropy_above": param("entropy"),
                    "top_entropy_of": param("tokens"),
                }
            },
        }
    ],
    parameters={
        "entropy": Number(2.0, 0.0, 50.0, "nats above which to branch; 2.0 to 2.4 in the paper"),
        "tokens": Number(20, 2, 20, "likeliest tokens whose entropy counts", whole=True),
        "width": Number(1, 1, 16, "other tokens tried at a fork", whole=True),
        "min_gap": Number(1, 1, 100_000, "fewest tokens between two forks of a path", whole=True),
        "depth": Number(1000, 1, 1000, "most forks on a path", whole=True),
    },
)
