"""Reasoning without its most informative words."""

from forkpoint_policies.spec.connectors import THINKING_WORDS

from ._entry import Entry, First, Number

ENTRY = Entry(
    name="thinking-ban",
    description=(
        "Never samples one of 15 capitalised words at which hidden states say most about the answer, in the reasoning."
    ),
    source="arXiv:2506.02867",
    caution=(
        "MATH500 fell from 78 to 48 while random words left it flat; but random words take away almost no probability, "
        "so compare with the placebo matched by probability. As in the authors' data, the tokens that are such a word "
        "are banned, with or without a space before it; the word can still be written in pieces, or in lower case. "
        "Their data also list 'The' and 'That', which are not banned."
    ),
    compared=(
        "ChnQ/MI-Peaks src/applications/data/DeepSeek-R1-Distill-Llama-8B.jsonl at bcee82c9fb (stored as "
        "hhh2210/MI-Peaks), 2026-11-26: words, their order and tokens; differs: 'The' and 'That' are not banned; the "
        "code that bans is not stored."
    ),
    parameters={
        "words": Number(
            len(THINKING_WORDS),
            1,
            len(THINKING_WORDS),
            "how many of the words, in the order of the authors' data",
            whole=True,
        )
    },
    rules=[
        {
            "when": {"region": "reasoning"},
            "do": {"suppress": {"words": First("words", THINKING_WORDS), "match": "token"}},
        }
    ],
)
