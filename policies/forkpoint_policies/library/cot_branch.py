"""CoT-decoding: an answer from each of the likeliest first tokens, and the one that is surest of its result."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="cot-branch",
    description=(
        "Begins with each of the 10 likeliest first tokens, goes on with the likeliest token each time, and returns "
        "the answer in which the likeliest token leads the second by most, where the result is written."
    ),
    source="arXiv:2402.10200",
    caution=(
        "Found on models that were not trained to reason. The first answer's own first token is sampled as the request "
        "says: temperature 0 gives the paper's ten. What is written after the reasoning counts as the result."
    ),
    rules=[
        {
            "when": {"before_token": 1},
            "do": {
                "branch": {"width": param("answers"), "max_branches": param("answers"), "depth": 1, "select": "margin"}
            },
        },
        {"when": {"after_token": 1}, "do": {"temperature": 0}},
    ],
    parameters={"answers": Number(10, 2, 256, "first tokens to start with", whole=True)},
)
