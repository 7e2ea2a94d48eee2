"""Look, and change nothing."""

from ._entry import Entry

ENTRY = Entry(
    name="observe",
    description="Marks the forks: positions whose entropy is above the model's fork threshold. Changes nothing.",
    source="",
    caution="High entropy only suggests a fork: of 25 forks verified by resampling, 1 lay in the top 20 % by entropy.",
    rules=[{"when": {"entropy_above": "fork"}, "do": {"observe": {}}}],
)
