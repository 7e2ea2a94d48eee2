"""NoThinking: a reasoning that only says that it has ended."""

from ._entry import Entry, Text, param

ENTRY = Entry(
    name="no-thinking",
    description="Writes a reasoning that says it is finished, and its end, before the model can write any.",
    source="arXiv:2504.09858",
    caution=(
        "Much shorter, and less right on hard questions: compare at equal tokens, as with several answers and a vote. "
        "The layout of the newlines is that of R1's chat template. Its placebo writes as many other tokens before the "
        "same end."
    ),
    compared=("paper only, 2026-11-26: the sentence and the marker; differs: the newlines are those of R1's template."),
    rules=[
        {
            "when": {"region": "reasoning", "at_most": 1},
            "do": {"end_reasoning": {"before": param("text"), "after": param("after")}},
        }
    ],
    parameters={
        "text": Text("Okay, I think I have finished thinking.\n", "the reasoning", fewest=0),
        "after": Text("\n\n", "what is written after the end of the reasoning", fewest=0),
    },
)
