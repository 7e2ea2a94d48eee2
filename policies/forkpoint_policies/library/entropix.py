"""Entropix: four quadrants of entropy and varentropy. A folk baseline."""

from ._entry import Entry, Largest, Number, param

ENTRY = Entry(
    name="entropix",
    description=(
        "By entropy H and varentropy V: both low, the likeliest token; H high and V low, reflection words raised; V "
        "high and H below 2.5, a little hotter; both high, much hotter."
    ),
    source="public code, no peer review",
    caution=(
        "A folk baseline: no controlled result is known. The original writes a pause token where H is high and V low, "
        "and branches where V alone is high; here reflection words are raised, and the temperature. "
        "The code asks for a high V with H below 2.5 before it asks for one with H above 1.2, so the latter only acts "
        "from 2.5 on. It measures in bits and changed its bounds often; these are used in nats."
    ),
    compared=(
        "xjdr-alt/entropix entropix/sampler.py at 68bbf40db5, 2026-11-26: quadrants, their order, bounds in nats; "
        "differs: the actions."
    ),
    parameters={
        "low_entropy": Number(0.3, 0, 50, "in nats"),
        "middle_entropy": Number(1.2, 0, 50, "in nats; acts only where it is above `high_entropy`"),
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
            "when": {"entropy_below": param("high_entropy"), "varentropy_above": param("high_varentropy")},
            "do": {"temperature": 1.2},
        },
        {
            "when": {
                "entropy_above": Largest(("middle_entropy", "high_entropy")),  # below, the rule before this one acts
                "varentropy_above": param("high_varentropy"),
            },
            "do": {"temperature": 1.5},
        },
    ],
)
