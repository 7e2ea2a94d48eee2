"""Entropix: four quadrants of entropy and varentropy. A folk baseline."""

from ._entry import Entry, Largest, Number, Text, param

ENTRY = Entry(
    name="entropix",
    description=(
        "By entropy H and varentropy V: both low, the likeliest token; H high and V low, writes ' ...'; V high and H "
        "below 2.5, nothing; both high, hotter."
    ),
    source="public code, no peer review",
    caution=(
        "A folk baseline: no controlled result is known. The quadrants, in nats, and their order are those of the "
        "newest sampler with them; older ones measured in bits, with other bounds and the attention's entropy. It asks "
        "for a high V with H below 2.5 before it asks for one with H above 1.2, so the latter only acts from 2.5 on. "
        "Where both are high it samples once more without the token that it has sampled, which is nearly a higher "
        "temperature: `heat` is ours, 1.5. Where both are low the older ones take the likeliest token; the newest "
        "has a sampler of its own for all tokens, which is left out. ' ...' is token 2564 of Llama 3."
    ),
    compared=(
        "xjdr-alt/entropix entropix/sampler.py at 68bbf40db5, 2026-11-26: quadrants, their order, bounds in nats, ' "
        "...' where the entropy alone is high; differs: the likeliest token where both are low, a higher temperature "
        "for a second sample where both are high."
    ),
    parameters={
        "low_entropy": Number(0.3, 0, 50, "in nats"),
        "middle_entropy": Number(1.2, 0, 50, "in nats; acts only where it is above `high_entropy`"),
        "high_entropy": Number(2.5, 0, 50, "in nats"),
        "low_varentropy": Number(1.2, 0, 1000, "in square nats"),
        "heat": Number(1.5, 0.01, 100, "the temperature's factor where both are high"),
        "text": Text(" ...", "what is written where the entropy is high and the varentropy low"),
        "high_varentropy": Number(2.5, 0, 1000, "in square nats"),
    },
    rules=[
        {
            "when": {"entropy_below": param("low_entropy"), "varentropy_below": param("low_varentropy")},
            "do": {"temperature": 0},
        },
        {
            "when": {"entropy_above": param("high_entropy"), "varentropy_below": param("low_varentropy")},
            "do": {"force": {"text": param("text")}},
        },
        {
            "when": {
                "entropy_above": Largest(("middle_entropy", "high_entropy")),  # below the latter, nothing is done
                "varentropy_above": param("high_varentropy"),
            },
            "do": {"temperature": param("heat")},
        },
    ],
)
