"""Where a trial answer leaves the answer: words and endings are replaced, also those inside a token."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import Previous, Probe
from forkpoint_server.branching.trial_start import TrialStart, TrialStarts
from tests.unit.policies.vocabularies import VOCABULARY, tokens

WORDS = Previous(words=("wait", "so"))
CASED = Previous(words=("Wait",), match="cased")
LINES = Previous(endings=("\n\n", ".\n\n"))


def start(text: str, previous: Previous | None = None, **fields: Any) -> TrialStart | None:
    """The start of a trial answer after all but the last of these tokens."""
    written = tokens(text)
    probe = Probe.model_validate({"probability_above": 0.5, **fields})
    return TrialStarts(probe, previous, VOCABULARY).at(written, len(written) - 1)


@pytest.mark.parametrize(
    ("text", "previous", "fields", "found"),
    [
        ("eck|Wait|eck", WORDS, {}, (2, "")),  # "eckWait" is one word
        ("eck| |Wait|eck", WORDS, {}, (2, "")),
        ("eck| Wait|eck", WORDS, {}, (1, " ")),
        ("eck| W|ait|eck", WORDS, {}, (1, " ")),
        ("eck|, so,|eck", WORDS, {}, (1, ", ")),
        ("eck|\n\nwait|eck", WORDS, {}, (1, "\n\n")),
        ("eck| wait|eck", CASED, {}, (2, "")),
        ("eck| Wait|eck", CASED, {}, (1, " ")),
        ("eck| Wait|eck", CASED, {"drop": "nothing"}, (2, "")),
        ("eck|\n\n|eck", LINES, {}, (2, "")),
        ("eck|\n\n|eck", LINES, {"drop": "previous"}, (1, "")),
        ("eck|.|\n\n|eck", LINES, {"drop": "previous"}, (1, "")),
        ("eck|.\n|\n|eck", LINES, {"drop": "previous"}, (1, "")),
        ("eck|.\n|\n|eck", LINES, {"drop": "space"}, (1, ".")),
        ("eck| |\n\n|eck", None, {"drop": "space"}, (1, "")),
        ("eck| |eck", None, {}, (2, "")),
        ("等|等。|\n\n|eck", LINES, {"drop": "previous"}, (2, "")),
    ],
)
def test_what_a_trial_answer_replaces(
    text: str, previous: Previous | None, fields: dict[str, Any], found: tuple[int, str]
) -> None:
    assert start(text, previous, **fields) == found


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("eck|.| so", True),
        ("eck|.|5", False),  # of a decimal number
        ("3|.| so", True),
        ("eck|.\n|so", True),
        ("eck|.|\n\n|so", False),  # it has ended at the full stop
        ("eck|.|\n\n", True),
        ("eck|?!| so", True),
        ("eck|”| so", False),
        ("eck|.|”| so", True),
        ("eck|, | so", False),
    ],
)
def test_a_sentence_ends_at_its_mark_before_white_space(text: str, ends: bool) -> None:
    assert (start(text, sentences=True) is not None) == ends
