"""More reflection at forks."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="amplify-reflection",
    description="Raises the logits of reflection words by `bias` at forks inside the reasoning.",
    source="",
    caution="No paper reports this rule alone; the strength is a starting point, not a finding.",
    parameters={"bias": Number(2.0, 0.01, 100, "how far the logits are raised")},
    rules=[
        {
            "when": {"entropy_above": "fork", "region": "reasoning"},
            "do": {"amplify": {"connectors": ["reflection"], "bias": param("bias")}},
        }
    ],
)
