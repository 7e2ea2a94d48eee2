"""Look, and change nothing."""

from ._entry import Entry

ENTRY = Entry(
    name="observe",
    description="Marks the forks: positions whose entropy is above the model's fork threshold. Changes nothing.",
    source="",
    caution=(
        "High entropy only suggests a fork: in published resampling data (Llama-3-8B-Instruct) 11.4% of the top fifth "
        "by entropy were verified as forks, and 1.1% of the rest."
    ),
    rules=[{"when": {"entropy_above": "fork"}, "do": {"observe": {}}}],
)
