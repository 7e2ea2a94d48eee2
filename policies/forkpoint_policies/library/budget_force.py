"""s1: once more before the reasoning ends."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="budget-force",
    description="Where the end of the reasoning would be drawn, writes a text instead, at most `times` times.",
    source="arXiv:2501.19393",
    caution=(
        "Longer does not mean better: compare at equal length. The cap on the length is vLLM's own thinking budget."
    ),
    compared=(
        "simplescaling/s1 README.md at 2f5badc526, 2026-11-26: 'Wait' in place of the end, once; differs: the end is "
        "the reasoning's marker, theirs a chat token of s1."
    ),
    parameters={
        "times": Number(1, 1, 1000, "how often the end is put off", whole=True),
        "text": Text("Wait", "what is written instead"),
    },
    rules=[
        {
            "when": {"region": "reasoning", "at_most": param("times")},
            "do": {"force": {"text": param("text"), "instead_of": "end_of_reasoning"}},
        }
    ],
)
