"""The plain cap that every early exit must beat."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="reasoning-cap",
    description="Ends the reasoning after a number of tokens, whatever the model says.",
    source="",
    caution="A control: the fair comparison for deer, eat and answer-convergence, at their own mean length.",
    rules=[{"when": {"region": "reasoning", "after_token": param("tokens")}, "do": {"end_reasoning": {}}}],
    parameters={"tokens": Number(1024, 0, 10_000_000, "reasoning tokens after which it ends", whole=True)},
)
