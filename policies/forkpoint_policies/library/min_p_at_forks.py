"""Min-p, where the model is unsure."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="min-p-at-forks",
    description="At forks, drops tokens whose probability is below a share of the likeliest one's.",
    source="",
    caution="No paper reports this rule alone; min-p is from arXiv:2407.01082, and is disputed.",
    parameters={"min_p": Number(0.1, 0.0001, 1, "the share of the likeliest token's probability")},
    rules=[{"when": {"entropy_above": "fork"}, "do": {"truncate": {"min_p": param("min_p")}}}],
)
