"""The likeliest token exactly where the model is unsure."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="greedy-when-unsure",
    description="Takes the likeliest token where its probability is small.",
    source="arXiv:2510.05987",
    caution=(
        "The opposite of what heats forks, and both are published. 0.3 could not be confirmed; sweep 0.2, 0.3, 0.5."
    ),
    compared="paper only, 2026-11-26: the likeliest token below a probability; differs: 0.3 is unconfirmed.",
    parameters={"below": Number(0.3, 0, 1, "the top probability below which the likeliest token is taken")},
    rules=[{"when": {"top_probability_below": param("below")}, "do": {"temperature": 0}}],
)
