"""thinking-ban bans exactly the tokens of the authors' list, arXiv:2506.02867.

The list is the authors' data: each capitalised word with the ids of the tokens that are this word, with or without
white space before it. The expected ids are found by that rule in a made-up vocabulary.
"""

from __future__ import annotations

import pytest
import torch

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.compile.regions import Region, single_token_regions
from tests.unit.policies.vocabularies import byte_vocabulary

from .replay import replay

COUNTS = {
    "So": 394, "Let": 218, "Hmm": 127, "I": 112, "The": 89, "Okay": 88, "That": 81, "First": 79, "Now": 74, "Wait": 68,
    "But": 64, "Then": 45, "Since": 45, "Therefore": 35, "Maybe": 29, "If": 25, "To": 24,
}  # fmt: skip
"""The English words of the authors' data for R1-Distill-Llama-8B, in its order, with how often each was at a peak."""
AUTHORS = [word for word in COUNTS if word not in ("The", "That")]
FORMS = [form for word in AUTHORS for form in (word, " " + word)]
OTHERS = [
    "\tSo",
    "\tIf",
    "(If",
    '"Wait',
    ".So",
    " SO",
    " Because",
    " The",
    "That",
    " Island",
    "Sofa",
    " Total",
    " Letter",
]
VOCABULARY = byte_vocabulary(*FORMS, *(form.lower() for form in FORMS if form != "I"), *OTHERS)
TARGET = ServedModel(
    VOCABULARY,
    fork_threshold=0.672,
    regions=single_token_regions(VOCABULARY.size - 3, VOCABULARY.size - 2),
    stop=VOCABULARY.size - 1,
)


def authors_ids(words: list[str]) -> set[int]:
    """The tokens that are one of the words after white space is stripped, as in the authors' data."""
    return {
        token
        for token, written in enumerate(VOCABULARY.tokens[:-3])
        if written.decode(errors="ignore").strip() in words
    }


def token(written: str) -> int:
    return VOCABULARY.tokens.index(written.encode())


def test_the_banned_tokens_are_the_authors_at_each_position() -> None:
    stream = [token(one) for one in (" so", ".", "\n", " if", " to", ".")]
    steps = replay("thinking-ban", [torch.zeros(VOCABULARY.size)] * 7, stream, TARGET)
    for step in steps:
        assert step.banned == authors_ids(AUTHORS)
    allowed = [" so", "so", " to", " if", " then", " first", " now", " but", " let", " The", "That", " SO", " Island"]
    assert not {token(one) for one in allowed} & steps[0].banned


def test_it_stops_with_the_reasoning() -> None:
    end = VOCABULARY.size - 2
    inside, after = replay("thinking-ban", [torch.zeros(VOCABULARY.size)] * 2, [end], TARGET)
    assert inside.banned
    assert not after.banned
    (answer,) = replay("thinking-ban", [torch.zeros(VOCABULARY.size)], [], TARGET, region=Region.ANSWER)
    assert not answer.banned


@pytest.mark.parametrize("count", range(1, len(AUTHORS) + 1))
def test_fewer_words_are_the_most_frequent_ones(count: int) -> None:
    (step,) = replay("thinking-ban", [torch.zeros(VOCABULARY.size)], [], TARGET, {"words": count})
    kept = [word for word in COUNTS if word in AUTHORS]
    assert step.banned == authors_ids(kept[:count])
    assert [COUNTS[word] for word in kept] == sorted((COUNTS[word] for word in kept), reverse=True)
