"""Self-consistency: independent answers, and what most of them say."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="self-consistency",
    description=(
        "Samples 40 independent answers and returns the first of those that say what most say. Those that still run "
        "when the majority is certain are stopped."
    ),
    source="arXiv:2203.11171",
    caution=(
        "The server's --max-branches bounds the answers, 16 by default. The paper samples at temperature 0.5 to 0.7; "
        "the request's is used. Of answers with as many votes, the one that was sampled first wins. "
        "self-consistency.placebo returns one of the answers at random."
    ),
    compared="paper only, 2026-11-26: 40 answers, their majority; differs: stops when it is certain.",
    rules=[{"do": {"sample": {"answers": param("answers"), "select": "majority", "extract": param("extract")}}}],
    parameters={
        "answers": Number(40, 1, 256, "answers", whole=True),
        "extract": Text("last_number", "what the votes are counted by: an extractor"),
    },
)
