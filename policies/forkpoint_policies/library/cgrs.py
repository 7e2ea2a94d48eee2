"""CGRS: fewer reflection words, the surer the model is of its answer."""

from ._entry import Entry, Number, Text, param

WORDS = ("Wait", "But", "Alternatively", "Hmm")

ENTRY = Entry(
    name="cgrs",
    description=(
        "At each blank line of the reasoning, lets the model guess its answer, with a certainty C. If C is above 0.9, "
        "the words Wait, But, Alternatively and Hmm are, with probability (C - 0.9) / (1 - 0.9), not sampled until the "
        "next blank line."
    ),
    source="arXiv:2508.05337",
    caution=(
        "The authors published no code that could be read; certainty (1 less the mean entropy as a share of the "
        "largest), the bound and the probability are those of a published reading of the paper. The paper draws at "
        "each token, here at each blank line, until the next one. Unconfirmed, and parameters here: the text before "
        "the guess, and its length. Each change starts the step anew, and the guesses cost tokens: `usage` counts "
        "both. A model that writes no blank lines is never probed. Compare with nowait and cgrs.placebo."
    ),
    compared=(
        "paper only, 2026-11-26: checkpoints at blank lines, certainty, probability, words; differs: one draw at each "
        "checkpoint, the paper's at each token."
    ),
    rules=[
        {
            "when": {"previous": {"endings": ["\n\n"]}, "region": "reasoning"},
            "do": {
                "probe": {
                    "place": "reasoning",
                    "text": param("text"),
                    "tokens": param("tokens"),
                    "stop": ["}"],
                    "span": {"mean": "entropy", "until": "closing_brace"},
                    "measure_only": True,
                    "in_proportion": True,
                }
            },
        },
        {
            "when": {"probe_confidence_above": param("certainty"), "region": "reasoning"},
            "do": {"suppress": {"words": WORDS, "match": "cased"}},
        },
    ],
    parameters={
        "certainty": Number(0.9, 0.0, 1.0, "of a guess, above which the words may be left out"),
        "tokens": Number(20, 1, 256, "most tokens of a guess", whole=True),
        "text": Text("**Final Answer**\n\\boxed{", "what is written before a guess"),
    },
)
