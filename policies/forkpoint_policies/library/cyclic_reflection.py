"""A wave of more and less reflection."""

from ._entry import Entry, Number, param

WORDS = ("wait", "Wait", "but", "But", "Alternatively")
"""As the authors' code looks them up in the vocabulary: without a space before them."""

ENTRY = Entry(
    name="cyclic-reflection",
    description=(
        "Adds a triangular wave of the position to the logits of five reflection tokens, until the reasoning ends."
    ),
    source="arXiv:2506.11077",
    caution=(
        "One paper, few models; the wave's phase starts at the first generated token. As in the authors' code, these "
        "are the tokens without a space before them; what is no token of the served model is matched as it is written. "
        "The authors take a period of 900 for AMC."
    ),
    compared=(
        "OPTML-Group/CyclicReflex Base/evaluate.py and Base/run_cyclicreflex.sh at 914fe48216, 2026-11-26: wave, five "
        "tokens, A 5, C 1200, until the end of the reasoning; differs: a word that is no token is matched as it is "
        "written."
    ),
    parameters={
        "amplitude": Number(5.0, 0.01, 100, "the wave's height, in logits"),
        "period": Number(1200, 4, 1_000_000, "the wave's length, in tokens", whole=True),
    },
    rules=[
        {
            "when": {"region": "reasoning"},
            "do": {
                "amplify": {
                    "words": WORDS,
                    "match": "bare_token",
                    "bias": {"shape": "triangular", "amplitude": param("amplitude"), "period": param("period")},
                }
            },
        }
    ],
)
