"""Early-stopping self-consistency: windows of answers, until those of one window agree."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="early-stop-consistency",
    description=(
        "Samples answers in windows of 5, at most 40 of them, until all answers of one window agree; returns what they "
        "say, or what most of all answers say."
    ),
    source="arXiv:2401.10480",
    caution=(
        "The answers of a window run at once, and the next window begins when all have ended. What a window agrees on "
        "is returned even where earlier windows had more votes for another answer, as in the authors' code. A window "
        "in which no answer has a result does not agree; in the authors' code it does."
    ),
    compared=(
        "Yiwei98/ESC early_stop_gsm8k.py at f56e3898dc, 2026-11-26: windows of 5 of 40, what the unanimous window "
        "says; differs: a window without a result does not agree."
    ),
    rules=[
        {
            "do": {
                "sample": {
                    "answers": param("answers"),
                    "select": "majority",
                    "unanimous": param("window"),
                    "extract": param("extract"),
                }
            }
        }
    ],
    parameters={
        "answers": Number(40, 1, 256, "most answers", whole=True),
        "window": Number(5, 1, 256, "answers of a window", whole=True),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
