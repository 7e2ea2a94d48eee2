"""ThinkBrake: end the reasoning when the model would almost."""

from ._entry import Entry, Number, Text, param

ENTRY = Entry(
    name="think-brake",
    description=(
        "At each full stop before a blank line of the reasoning, ends it if its end, after the full stop and one "
        "newline, is at most `within` nats less likely than the likeliest token after the blank line."
    ),
    source="arXiv:2510.00546; code: ssangjun706/ThinkBrake, handler.py",
    caution=(
        "Ends early by design: compare with a plain cap at the same mean length. The authors sweep `within` over 0.1, "
        "0.25, 1, 2.5 and 5. They write '.' as `before` for Phi-4, and nothing after the end. Their code takes the log "
        "probability of one sampled token after the blank line; the paper, and this, that of the likeliest. An end "
        "that is not among the 20 likeliest tokens is never near enough."
    ),
    compared=(
        "ssangjun706/ThinkBrake thinkbrake/func/handler.py at 65e57691eb, 2026-11-26: boundary, both contexts, bound, "
        "text at the end; differs: the likeliest token's log probability, theirs is a sampled one's."
    ),
    parameters={
        "within": Number(1.0, 0, 50, "ln p_max - ln p(end of reasoning), in nats"),
        "before": Text(".\n", "what stands in place of the full stop and the blank line before the end"),
        "after": Text("\n\n", "what is written after the end", fewest=0),
    },
    rules=[
        {
            "when": {"region": "reasoning", "previous": {"endings": [".\n\n"]}},
            "do": {
                "probe": {
                    "place": "reasoning",
                    "drop": "previous",
                    "text": param("before"),
                    "tokens": 1,
                    "end_of_reasoning_within": param("within"),
                    "end_reasoning": {"before": param("before"), "after": param("after")},
                }
            },
        }
    ],
)
