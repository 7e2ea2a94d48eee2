"""Test-time scaling by thinking tokens: after the answer, one more thinking word, and a last answer."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="think-again",
    description=(
        'Ends the answer after at most 4096 tokens, writes " Wait" in place of its end and lets the model go on for at '
        'most 4096 more, then writes " Final Answer within \\boxed{}:" and takes the 16 likeliest tokens.'
    ),
    source="arXiv:2506.02867",
    caution=(
        "The authors' code (TTTS_evaluate.py) is greedy throughout; here only the last tokens are, and the rest is "
        "sampled as the request says. The response has all of it and mostly ends with `length`. Longer does not mean "
        "better: compare at equal length, and with a random word (think-again.placebo)."
    ),
    compared=(
        "ChnQ/MI-Peaks src/applications/TTTS_evaluate.py at bcee82c9fb (stored as hhh2210/MI-Peaks), 2026-11-26: both "
        "budgets, texts, last tokens; differs: greedy only at the end."
    ),
    rules=[
        {
            "do": {
                "resume": {
                    "text": param("text"),
                    "base_tokens": param("base_tokens"),
                    "tokens": param("tokens"),
                    "times": param("times"),
                    "final": {"text": param("final"), "tokens": param("final_tokens")},
                }
            }
        }
    ],
    parameters={
        "text": Text(" Wait", "what is written in place of the end"),
        "base_tokens": Number(4096, 1, 1_000_000_000, "most tokens of the first answer", whole=True),
        "tokens": Number(4096, 1, 1_000_000_000, "most tokens of a continuation", whole=True),
        "times": Number(1, 1, 256, "continuations", whole=True),
        "final": Text(" Final Answer within \\boxed{}:", "what is written at last"),
        "final_tokens": Number(16, 1, 1000, "tokens that follow it", whole=True),
    },
)
