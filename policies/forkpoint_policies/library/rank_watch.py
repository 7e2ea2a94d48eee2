"""Look at the effective rank of the hidden states, and change nothing."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="rank-watch",
    description=(
        "Measures the effective rank of the last layer's hidden states over the latest tokens, and marks where it is "
        "above the mean of the request's earlier values. Changes nothing."
    ),
    source="arXiv:2509.23808",
    caution=(
        "The paper measures the rank over the whole answer up to each 40th token, cut to its last 512, after the fact, "
        "and uses it to shape rewards in training; nobody reports what it says about an answer that is being written. "
        "Here it is over a window of fixed length, since the rank of a longer text is larger. Compare ranks only at "
        "equal windows."
    ),
    compared=(
        "hf618/VERL verl/trainer/metrics_calculator.py at 374077235b, 2026-11-26: the effective rank; differs: "
        "windows of one length while the text is written, theirs prefixes after the fact; no reward."
    ),
    rules=[
        {
            "when": {
                "effective_rank_velocity_above": param("velocity"),
                "rank_window": param("window"),
                "rank_stride": param("stride"),
            },
            "do": {"observe": {}},
        }
    ],
    parameters={
        "velocity": Number(0.0, -512, 512, "above the mean of the earlier ranks by more than this is marked"),
        "window": Number(64, 2, 512, "tokens whose states are measured", whole=True),
        "stride": Number(16, 1, 512, "tokens from one measurement to the next", whole=True),
    },
)
