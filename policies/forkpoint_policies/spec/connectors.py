"""Connector words by what they do in a trace. Data; a family is a name and its words, matched whole and in any case."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "reflection": (
            "wait", "hmm", "but", "however", "actually", "check", "double-check", "recheck", "verify", "again", "oh",
            "maybe", "alternatively", "alternative", "another", "instead",
        ),
        "alternative": (
            "alternatively", "alternative", "another", "instead", "otherwise", "either", "or", "perhaps", "maybe",
        ),
        "conclusion": ("therefore", "thus", "hence", "so", "finally", "overall", "consequently", "in conclusion"),
        "execution": ("then", "now", "next", "first", "second", "since", "because", "if", "let", "let's", "given"),
        "uncertainty": ("maybe", "perhaps", "possibly", "probably", "might", "unsure"),
    }
)  # fmt: skip
"""Words that several studies of reasoning traces name: arXiv:2501.18585 (switching), 2506.08343 (NoWait), 2506.02867.
"""

NOWAIT_WORDS = (
    "wait", "alternatively", "hmm", "but", "however", "alternative", "another", "check", "double-check", "oh", "maybe",
    "verify", "other", "again", "now", "ah", "any",
)  # fmt: skip
"""The 17 words of NoWait (arXiv:2506.08343)."""

THINKING_WORDS = (
    "So", "Let", "Hmm", "I", "Okay", "First", "Now", "Wait", "But", "Then", "Since", "Therefore", "Maybe", "If", "To",
)  # fmt: skip
"""Words at which the hidden states carry most information about the answer, as written and in the order of the authors'
data: the most frequent first (arXiv:2506.02867)."""

SWITCH_WORDS = ("alternatively", "alternative", "another")
"""Words that start another thought; the paper (arXiv:2501.18585) gives no list that could be confirmed."""
