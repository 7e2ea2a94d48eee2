"""CGRS: no reflection words while the model is sure of its answer."""

from ._entry import Entry, Number, Text, param

WORDS = ("Wait", "But", "Alternatively", "Hmm")

ENTRY = Entry(
    name="cgrs",
    description=(
        "At each blank line of the reasoning, lets the model guess its answer; where its certainty is above 0.9, the "
        "words Wait, But, Alternatively and Hmm are never sampled until the next blank line."
    ),
    source="arXiv:2508.05337",
    caution=(
        "The authors published no code. Unconfirmed, and parameters here: the bound of 0.9, the text before the guess, "
        "its length, and that certainty is 1 less the mean entropy as a share of the largest. Each change of certainty "
        "starts the step anew, and the guesses cost tokens: `usage` counts both. A model that writes no blank lines is "
        "never probed. Compare with nowait and cgrs.placebo."
    ),
    compared=(
        "paper only, 2026-11-26: checkpoints at blank lines, certainty, words; differs: suppression above the bound "
        "is certain, the paper's has a probability."
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
                }
            },
        },
        {
            "when": {"probe_confidence_above": param("certainty"), "region": "reasoning"},
            "do": {"suppress": {"words": WORDS, "match": "cased"}},
        },
    ],
    parameters={
        "certainty": Number(0.9, 0.0, 1.0, "of a guess, above which the words are not sampled"),
        "tokens": Number(20, 1, 256, "most tokens of a guess", whole=True),
        "text": Text("**Final Answer**\n\\boxed{", "what is written before a guess"),
    },
)
