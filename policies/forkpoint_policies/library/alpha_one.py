"""AlphaOne: slow thinking first, fast thinking after a moment."""

from ._entry import CALIBRATED, Entry, Number, Text, param

BLANK_LINES = (",\n\n", ".\n\n", "]\n\n", ")\n\n", "],\n\n", "].\n\n", ").\n\n", ".)\n\n")
"""The tokens after which the authors' code waits, beside a blank line alone."""

ENTRY = Entry(
    name="alpha-one",
    description=(
        'Until the moment t_m = alpha * thinking_tokens, writes "Wait" after a blank line, alone or in one token with '
        'one of , . ] ) or two of them, with probability 1 - t / t_m; after it, a sampled "Wait" becomes the end of '
        "the reasoning."
    ),
    source="arXiv:2505.24863",
    caution=(
        "thinking_tokens is the mean length of the served model's reasoning, from its calibration; without one, 1000 "
        "is only a guess, and validation says so. The authors' code for programs has 2500, 3150 and 4800 for its three "
        "models. After a blank line that is one token with another sign, such as ':', neither waits. Their code does "
        "not look for the end of the reasoning: it waits in the answer too, and ends a reasoning that has ended again. "
        "It finds 'Wait' as a part of other words, and drops a newline before it."
    ),
    compared=(
        "ASTRAL-Group/AlphaOne eval/code_eval_efficient.py at c9e9085996 (the code for mathematics is not stored), "
        "2026-11-26: schedule, moment, alpha 1.4, the nine tokens to wait after; differs: both rules act only in the "
        "reasoning, 'Wait' is a whole word."
    ),
    parameters={
        "alpha": Number(1.4, 0.01, 100, "the moment, in mean reasoning lengths"),
        "thinking_tokens": Number(
            CALIBRATED,
            1,
            1_000_000,
            "the mean length of the model's reasoning, in tokens; `calibrated` is the served model's own",
            whole=True,
            other=CALIBRATED,
        ),
        "paragraph": Text(
            "\n\n", "what ends a paragraph, beside the authors' tokens: a token, or a text if none is one"
        ),
    },
    rules=[
        {
            "when": {
                "region": "reasoning",
                "previous": {"endings": [param("paragraph"), *BLANK_LINES], "ending_match": "token"},
                "before_token": param("alpha", "thinking_tokens", whole=True),
                "probability": {
                    "shape": "linear",
                    "start": 1.0,
                    "end": 0.0,
                    "over": param("alpha", "thinking_tokens", whole=True),
                },
            },
            "do": {"force": {"text": "Wait"}},
        },
        {
            "when": {"region": "reasoning", "after_token": param("alpha", "thinking_tokens", whole=True)},
            "do": {"end_reasoning": {"instead_of": {"words": ["Wait"], "match": "cased"}}},
        },
    ],
)
