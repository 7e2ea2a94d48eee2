"""RCPD: end the reasoning where its end has risen among the next tokens."""

from ._entry import Entry, Number, param

ENDINGS = [mark + space for mark in ".?!" for space in ("", " ", "\n", "\n\n")]

ENTRY = Entry(
    name="rcpd",
    description=(
        "At the end of each sentence of the reasoning, takes the rank of its end marker among the next tokens; ends "
        "the reasoning where the rank is at most 5, or at most 10, 50, 100 and 1000 here and one, two and three "
        "sentences before, or at most 20 for three sentences, or at most 50 for six."
    ),
    source="arXiv:2508.17627 (v2; ACL 2026), the rules of its appendix C",
    caution=(
        "The authors published no code that could be reached; the four rules and their numbers are the appendix's as a "
        "published reading of the paper gives them, not confirmed in the paper itself. The authors divide sentences "
        "with NLTK; here one ends at '.', '?' or '!' before white space, abbreviations too. The ranks were fitted on "
        "MATH-500 with Qwen3 and R1-Distill. Compare with reasoning-cap, and with ends at random (rcpd.placebo)."
    ),
    compared=(
        "paper only, by a published reading of it, 2026-11-26: the four rules; differs: sentences end by punctuation, "
        "not by NLTK."
    ),
    rules=[
        {
            "when": {"previous": {"endings": ENDINGS}, "region": "reasoning"},
            "do": {
                "probe": {
                    "sentences": True,
                    "end_of_reasoning_ranks": [
                        [param("saturated")],
                        [10, 50, 100, 1000],
                        [param("stable")] * 3,
                        [param("persistent")] * 6,
                    ],
                }
            },
        }
    ],
    parameters={
        "saturated": Number(5, 1, 1_000_000, "rank of the end of the reasoning at one sentence", whole=True),
        "stable": Number(20, 1, 1_000_000, "rank at three sentences in a row", whole=True),
        "persistent": Number(50, 1, 1_000_000, "rank at six sentences in a row", whole=True),
    },
)
