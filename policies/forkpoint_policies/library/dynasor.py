"""Dynasor: end the reasoning when the answers that the model is made to guess agree."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="dynasor",
    description=(
        "Every 64 tokens of the reasoning, lets the model guess the answer, and continues meanwhile; after 8 equal "
        "guesses in a row, none of them with a word of doubt, ends the reasoning 64 tokens later with that answer."
    ),
    source="arXiv:2412.20993; code: hao-ai-lab/Dynasor, cot.py",
    caution=(
        "The guesses cost tokens, which `usage` counts; compare with reasoning-cap. The authors' levels are (`equal`, "
        "`every`): mild 8, 64, the default here; low 5, 64; mid 3, 64; high 2, 64; crazy 2, 32. A word of doubt is "
        "found inside others too: 'no' in 'now'. Their code also guesses after the reasoning has ended, and compares "
        "guesses with its own equality of formulas, in place of Math-Verify."
    ),
    compared=(
        "hao-ai-lab/Dynasor dynasor/cot.py at 5eefa64081, 2026-11-26: guesses, levels, words of doubt, text at the "
        "end; differs: equality by Math-Verify, no guesses after the reasoning."
    ),
    rules=[
        {
            "when": {"every": param("every"), "region": "reasoning"},
            "do": {
                "probe": {
                    "place": "reasoning",
                    "text": param("text"),
                    "tokens": param("tokens"),
                    "temperature": param("temperature"),
                    "top_p": param("top_p"),
                    "agreement": param("equal"),
                    "extract": param("extract"),
                    "rejects": ["wait", "hold", "but", "okay", "no", "hmm"],
                    "exit_after_tokens": param("every"),
                    "end_reasoning": {
                        "before": "\n\n...",
                        "after": (
                            "\n Oh, I have got the answer to the whole problem\n**Final Answer:**\n\\[\n "
                            "\\boxed{{answer}}\n\\]"
                        ),
                        "stop": True,
                    },
                }
            },
        }
    ],
    parameters={
        "every": Number(
            64, 1, 100_000, "tokens from one guess to the next, and from the last one to the end", whole=True
        ),
        "equal": Number(8, 2, 1000, "equal guesses in a row after which the reasoning ends", whole=True),
        "tokens": Number(20, 1, 256, "most tokens of a guess", whole=True),
        "temperature": Number(0.6, 0.0, 10.0, "of the guesses"),
        "top_p": Number(0.95, 0.01, 1.0, "of the guesses"),
        "extract": Text("math", "what of two guesses is compared: an extractor"),
        "text": Text(
            "... Oh, I suddenly got the answer to the whole problem, **Final Answer**\n\n\\[ \\boxed{",
            "what is written before a guess",
        ),
    },
)
