"""Ends the reasoning at the end of a sentence where its end is almost the likeliest token."""

from ._entry import Entry, Number, param

ENTRY = Entry(
    name="end-when-likely",
    description=(
        "At the end of a sentence or line, ends the reasoning if that is at most `within` nats less likely than any "
        "token."
    ),
    source="",
    caution=(
        "No publication's: what think-brake was here before 0.2, for models that write no blank lines. It costs no "
        "trials. Ends early by design: compare with a plain cap at the same mean length. Sweep 0.1 to 2."
    ),
    parameters={"within": Number(0.5, 0, 50, "ln p_max - ln p(end of reasoning), in nats")},
    rules=[
        {
            "when": {
                "region": "reasoning",
                "previous": {"endings": [".", "!", "?", "\n"]},
                "end_of_reasoning_within": param("within"),
            },
            "do": {"end_reasoning": {}},
        }
    ],
)
