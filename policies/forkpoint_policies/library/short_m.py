"""short-m@k: of k answers, the majority of the m that finish their reasoning first."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="short-m",
    description=(
        "Starts 8 answers at once, lets the 3 whose reasoning ends first go on, and returns what most of them say; of "
        "answers with as many votes, the one with the shortest reasoning."
    ),
    source="arXiv:2505.17813",
    caution=(
        "The paper's m are 1 and 3; its k goes up to 20, and 8 is only a default [unconfirmed]. Which reasoning ends "
        "first depends on the engine: an answer that had to wait for room starts later. Without a reasoning parser the "
        "end of the text counts. The first to end is the shortest: compare with a plain cap at the same mean length."
    ),
    compared=("paper only, 2026-11-26: the majority of the first m, ties to the shortest; differs: 8 answers is ours."),
    rules=[
        {
            "do": {
                "sample": {
                    "answers": param("answers"),
                    "select": "majority",
                    "first": param("m"),
                    "first_by": "reasoning",
                    "extract": param("extract"),
                }
            }
        }
    ],
    parameters={
        "answers": Number(8, 1, 256, "k: answers that start at once", whole=True),
        "m": Number(3, 1, 256, "answers that have a vote; 1 or 3", whole=True),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
