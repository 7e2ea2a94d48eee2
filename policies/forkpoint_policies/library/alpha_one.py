"""AlphaOne: slow thinking first, fast thinking after a moment."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="alpha-one",
    description=(
        'Until the moment t_m = alpha * thinking_tokens, writes "Wait" after a paragraph with probability 1 - t / t_m; '
        'after it, a drawn "Wait" becomes the end of the reasoning.'
    ),
    source="arXiv:2505.24863",
    caution=(
        "thinking_tokens is the served model's mean reasoning length: without a calibration the default is only a "
        "guess."
    ),
    parameters={
        "alpha": Number(1.4, 0.01, 100, "the moment, in mean reasoning lengths"),
        "thinking_tokens": Number(
            1000, 1, 1_000_000, "the mean length of the model's reasoning, in tokens", whole=True
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
            "do": {"end_reasoning": {"instead_of": {"words": ["wait"]}}},
        },
    ],
)
