"""AlphaOne: slow thinking first, fast thinking after a moment."""

from ._entry import CALIBRATED, Entry, Number, Text, param

ENTRY = Entry(
    name="alpha-one",
    description=(
        'Until the moment t_m = alpha * thinking_tokens, writes "Wait" after a paragraph with probability 1 - t / t_m; '
        'after it, a sampled "Wait" becomes the end of the reasoning.'
    ),
    source="arXiv:2505.24863",
    caution=(
        "thinking_tokens is the mean length of the served model's reasoning, from its calibration; without one, 1000 "
        "is only a guess, and validation says so. The authors measure it for each data set."
    ),
    compared=(
        "ASTRAL-Group/AlphaOne eval/code_eval_efficient.py at c9e9085996 (the code for mathematics is not stored), "
        "2026-11-26: schedule, moment, alpha 1.4; differs: paragraphs, both rules only in the reasoning, 'Wait' as a "
        "whole word."
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
        "paragraph": Text("\n\n", "what ends a paragraph"),
    },
    rules=[
        {
            "when": {
                "region": "reasoning",
                "previous": {"endings": [param("paragraph")]},
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
