"""Answer convergence: end the reasoning when the answer no longer changes."""

from ._entry import Entry, Number, Text, param

ENDINGS = [mark + space for mark in ".?!" for space in ("", " ", "\n", "\n\n")]

ENTRY = Entry(
    name="answer-convergence",
    description=(
        "After each sentence of the reasoning, tries an answer in a box after the end of the reasoning; ends the "
        "reasoning with it after 10 equal ones in a row."
    ),
    source="arXiv:2506.02536; code: launchnlp/reasoning_earlystop",
    caution=(
        "Compare with reasoning-cap; the tried answers cost tokens, one of them for each sentence, which `usage` "
        "counts. The authors divide sentences with NLTK after the text is complete; here one ends at '.', '?' or '!' "
        "before white space, abbreviations too. The number of equal answers is the paper's 10; the default of its code "
        "could not be confirmed, nor the code's presence penalty of 1 (`presence_penalty`)."
    ),
    compared=(
        "paper only, 2026-11-26: boundary, suffix, k = 10, exact equality; differs: sentences end by punctuation, not "
        "by NLTK."
    ),
    rules=[
        {
            "when": {"previous": {"endings": ENDINGS}, "region": "reasoning"},
            "do": {
                "probe": {
                    "sentences": True,
                    "drop": "space",
                    "before": "\n",
                    "text": param("text"),
                    "tokens": param("tokens"),
                    "stop": ["\n"],
                    "presence_penalty": param("presence_penalty"),
                    "agreement": param("equal"),
                    "extract": param("extract"),
                    "end_reasoning": {"before": "\n", "after": "\n\\boxed{{answer}}", "stop": True},
                }
            },
        }
    ],
    parameters={
        "equal": Number(10, 2, 1000, "equal answers in a row after which the reasoning ends", whole=True),
        "tokens": Number(100, 1, 256, "most tokens of a tried answer", whole=True),
        "extract": Text("boxed_text", "what of two answers is compared: an extractor"),
        "text": Text(
            "\n\\boxed{", "what is written after the end of the reasoning, to prompt for the answer", fewest=0
        ),
        "presence_penalty": Number(0.0, -2.0, 2.0, "of the tried answers"),
    },
)
