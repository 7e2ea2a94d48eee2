"""Entropix: four quadrants of entropy and varentropy. A folk baseline."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="entropix",
    description=(
        "By entropy H and varentropy V: both low, the likeliest token; H high and V low, reflection words raised; H "
        "low and V high, a little hotter; both high, much hotter."
    ),
    source="public code, no peer review",
    caution=(
        "A folk baseline: no controlled result is known. The original writes a pause token where H is high and V low, "
        "and branches where V alone is high; here reflection words are raised, and the temperature."
    ),
    parameters={
        "low_entropy": Number(0.3, 0, 50, "in nats"),
        "middle_entropy": Number(1.2, 0, 50, "in nats"),
        "high_entropy": Number(2.5, 0, 50, "in nats"),
        "low_varentropy": Number(1.2, 0, 1000, "in square nats"),
        "high_varentropy": Number(2.5, 0, 1000, "in square nats"),
    },
    rules=[
        {
            "when": {"entropy_below": param("low_entropy"), "varentropy_below": param("low_varentropy")},
            "do": {"temperature": 0},
        },
        {
            "when": {"entropy_above": param("high_entropy"), "varentropy_below": param("low_varentropy")},
            "do": {"amplify": {"connectors": ["reflection"], "bias": 2.0}},
        },
        {
            "when": {"entropy_below": param("middle_entropy"), "varentropy_above": param("high_varentropy")},
            "do": {"temperature": 1.2},
        },
        {
            "when": {"entropy_above": param("high_entropy"), "varentropy_above": param("high_varentropy")},
            "do": {"temperature": 1.5},
        },
    ],
)
