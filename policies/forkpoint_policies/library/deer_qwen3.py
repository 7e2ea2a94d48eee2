"""DEER as its authors run it on Qwen3: the model itself must end its reasoning after the trial answer."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="deer-qwen3",
    description=(
        "As deer, for Qwen3: a tried answer counts only if the end of the reasoning follows it, and its mean "
        "probability is geometric and includes that end."
    ),
    source="arXiv:2504.15895; code: iie-ycx/DEER, vllm-deer-qwen3.py",
    caution=(
        "The authors found Qwen3 too sure of its answers otherwise. Compare with a plain cap at the same mean length "
        "(reasoning-cap) and with ends at random (deer-qwen3.placebo). As in their code, tried answers are sampled at "
        "temperature 1 (`temperature`). It also ends the reasoning at a share of the longest answer (`think_ratio`), "
        "where here only reasoning-cap or max_tokens does; finds 'Wait' as a part of other words; and writes newlines "
        "around an end that the model writes."
    ),
    compared=(
        "iie-ycx/DEER vllm-deer-qwen3.py at e6d09c2fd6 (stored as BugSmith/DEER), 2026-11-26: trigger, prompt, "
        "trials at temperature 1, geometric mean with the marker, bound; differs: 'Wait' as a whole word, no end at a "
        "share of the longest answer."
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
                    "temperature": param("temperature"),
                    "span": {"skip": 1, "mean": "geometric", "needs_end": True},
                    "probability_above": param("probability"),
                    "end_reasoning": {"before": "\n", "after": "\n\n"},
                }
            },
        }
    ],
    parameters={
        "probability": Number(
            0.95, 0.0, 1.0, "geometric mean probability of the tried answer's tokens above which the reasoning ends"
        ),
        "tokens": Number(20, 2, 256, "most tokens of a tried answer and the end of the reasoning", whole=True),
        "trials": Number(10, 1, 1000, "most answers tried", whole=True),
        "word": Text("Wait", "the word, in this case, at which an answer is tried"),
        "text": Text("\n**Final Answer**\n\\boxed", "what is written before the tried answer"),
        "temperature": Number(1.0, 0.0, 10.0, "of the tried answers"),
    },
)
