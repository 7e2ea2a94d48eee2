"""DEER: end the reasoning where a trial answer at a reflection word is confident."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="deer",
    description=(
        "At each 'Wait' in the reasoning, tries an answer in a box in its place; ends the reasoning there when the "
        "mean probability of the tried tokens, without the opening brace, is above 0.95."
    ),
    source="arXiv:2504.15895; code: iie-ycx/DEER, vllm-deer.py",
    caution=(
        "Compare with a plain cap at the same mean length (reasoning-cap) and with ends at random (deer.placebo). The "
        "tried answers cost tokens, which `usage` counts. As in the authors' code, they are sampled at temperature 1, "
        "though a comment there says greedy (`temperature` 0); a tried answer ends at one of ten texts that close a "
        "box, and all its tokens but the first count: after an end that is none of them, such as '}$', the mean covers "
        "up to 20 tokens. Their code also ends the reasoning at a share of the longest answer (`think_ratio`, 0.9 in "
        "its scripts), where here only reasoning-cap or max_tokens does; finds 'Wait' as a part of other words; and "
        "writes newlines around an end that the model writes. With `word` Alternatively, it is their other variant; "
        "for Qwen3 use deer-qwen3."
    ),
    compared=(
        "iie-ycx/DEER vllm-deer.py at 1694573475 (stored as BugSmith/DEER), 2026-11-26: trigger, prompt, stop "
        "strings, 10 trials of 20 tokens at temperature 1, mean, bound, text at the end; differs: 'Wait' as a whole "
        "word, no end at a share of the longest answer."
    ),
    rules=[
        {
            "when": {
                "previous": {"words": [param("word")], "match": "cased"},
                "region": "reasoning",
                "at_most": param("trials"),
            },
            "do": {
                "probe": {
                    "place": "reasoning",
                    "text": param("text"),
                    "tokens": param("tokens"),
                    "stop": [" }", "}\n", "}\n\n", "}.", "}.\n", "}\\", "}}", ")}", ")}.", ")}\n"],
                    "temperature": param("temperature"),
                    "span": {"skip": 1},
                    "probability_above": param("probability"),
                    "end_reasoning": {"before": "\n", "after": "\n\n"},
                }
            },
        }
    ],
    parameters={
        "probability": Number(
            0.95, 0.0, 1.0, "mean probability of the tried answer's tokens above which the reasoning ends"
        ),
        "tokens": Number(20, 2, 256, "most tokens of a tried answer", whole=True),
        "trials": Number(10, 1, 1000, "most answers tried", whole=True),
        "word": Text("Wait", "the word, in this case, at which an answer is tried"),
        "text": Text("\n**Final Answer**\n\\boxed", "what is written before the tried answer"),
        "temperature": Number(1.0, 0.0, 10.0, "of the tried answers"),
    },
)
