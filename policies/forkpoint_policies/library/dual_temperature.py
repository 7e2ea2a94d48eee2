"""One temperature for forks, another for the rest."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="dual-temperature",
    description="Inside the reasoning, multiplies the temperature by `high` at forks and by `low` everywhere else.",
    source="arXiv:2506.01939",
    caution=(
        "The paper's base is 1 and 1, which changes nothing; it tries high 0, 1.5 and 2 (2 is harmless: 71.67 -> "
        "72.22) and finds low 3 fatal (20.14). The default here cools what is not a fork to 0.6, the cooling that it "
        "tries."
    ),
    compared=(
        "paper only, 2026-11-26: fork threshold 0.672 and the two temperatures; differs: the default 1 and 0.6 is ours."
    ),
    parameters={
        "high": Number(1.0, 0, 10, "the factor where the entropy is above the threshold; 0 takes the likeliest token"),
        "low": Number(0.6, 0, 10, "the factor elsewhere"),
        "threshold": Number("fork", 0, 50, "in nats; `fork` is the served model's fork threshold", other="fork"),
    },
    rules=[
        {"when": {"entropy_above": param("threshold"), "region": "reasoning"}, "do": {"temperature": param("high")}},
        {"when": {"entropy_below": param("threshold"), "region": "reasoning"}, "do": {"temperature": param("low")}},
    ],
)
