"""CoT-decoding: an answer from each of the likeliest first tokens, and the result of which they are surest."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="cot-branch",
    description=(
        "Begins with each of the 10 likeliest first tokens and continues with the likeliest token each time. The lead "
        "of the likeliest token over the second, averaged over the tokens in which the result is written, is summed "
        "over answers with the same result; returns the answer with the most, of those the widest lead."
    ),
    source="arXiv:2402.10200",
    caution=(
        "Found on models that were not trained to reason. The result is what the extractor reads after the reasoning, "
        "by default the last number; where its tokens are not found, all tokens after the reasoning count."
    ),
    compared=(
        "paper only, 2026-11-26: 10 first tokens, greedy, margin over the answer's tokens summed by answer; differs: "
        "none known."
    ),
    rules=[
        {
            "when": {"before_token": 1},
            "do": {
                "branch": {
                    "width": param("answers"),
                    "max_branches": param("answers"),
                    "depth": 1,
                    "select": "margin",
                    "extract": param("extract"),
                }
            },
        },
        {"do": {"temperature": 0}},
    ],
    parameters={
        "answers": Number(10, 2, 256, "first tokens to start with", whole=True),
        "extract": Text("last_number", "what answers are compared by: an extractor"),
    },
)
