"""NoWait: reasoning without reflection words."""

from forkpoint_policies.spec.connectors import NOWAIT_WORDS

from ._entry import Entry

ENTRY = Entry(
    name="nowait",
    description="Never draws one of 17 reflection words inside the reasoning, in any spelling.",
    source="arXiv:2506.08343",
    caution=(
        "27 to 51% shorter traces are claimed, 13 to 16% were found on Qwen3-32B. The paper bans substrings, which "
        "also hits 'know', 'company' and 'button'; here whole words are banned. On the embedded model accuracy falls."
    ),
    compared="paper only, 2026-11-26: the 17 words; differs: whole words, the paper's are substrings.",
    rules=[{"when": {"region": "reasoning"}, "do": {"suppress": {"words": NOWAIT_WORDS}}}],
)
