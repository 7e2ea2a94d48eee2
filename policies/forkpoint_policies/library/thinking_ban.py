"""Reasoning without its most informative words."""

from forkpoint_policies.spec.connectors import THINKING_WORDS

from ._entry import Entry, First, Number

ENTRY = Entry(
    name="thinking-ban",
    description="Never draws one of the words at which hidden states say most about the answer, inside the reasoning.",
    source="arXiv:2506.02867",
    caution=(
        "MATH500 fell from 78 to 48 while random words left it flat; but random words take away almost no probability, "
        "so compare with the placebo matched by probability. 15 of the paper's 17 words are known here."
    ),
    parameters={
        "words": Number(
            len(THINKING_WORDS), 1, len(THINKING_WORDS), "how many of the words, in the paper's order", whole=True
        )
    },
    rules=[{"when": {"region": "reasoning"}, "do": {"suppress": {"words": First("words", THINKING_WORDS)}}}],
)
