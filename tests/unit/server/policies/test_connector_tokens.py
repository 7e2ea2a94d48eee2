"""The connector tokens of a vocabulary."""

from __future__ import annotations

from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.spec.connectors import FAMILIES
from forkpoint_server.policies.connector_tokens import find_connectors
from tests.unit.policies.vocabularies import SIZE, VOCABULARY, token, tokens

FOUND = find_connectors(VOCABULARY)


def test_a_token_that_is_a_whole_word_belongs_to_the_family_of_the_word() -> None:
    assert {FOUND.family(token(one)) for one in ("Wait", " wait", "WAIT", "but")} == {"reflection"}
    assert FOUND.family(token("so")) == "conclusion"
    assert FOUND.family(token("let")) == "execution"
    assert token("Wait") in FOUND.tokens["reflection"]


def test_parts_of_words_and_words_that_contain_one_belong_to_none() -> None:
    assert {FOUND.family(token(one)) for one in ("Wa", "it", "button", " waiting", "snow")} == {None}


def test_a_word_of_two_families_counts_for_the_first() -> None:
    both = token("another")
    assert both in FOUND.tokens["reflection"]
    assert both in FOUND.tokens["alternative"]
    assert FOUND.family(both) == "reflection"
    assert FOUND.count([both]) == {"reflection": 1}


def test_families_that_do_not_occur_are_left_out_of_the_count() -> None:
    assert FOUND.count([]) == {}
    assert FOUND.count(tokens("Wait|it|so|but|Wait")) == {"reflection": 3, "conclusion": 1}
    assert FOUND.count([SIZE, SIZE + 1000]) == {}, "a model may have more logits than its tokenizer has ids"


def test_words_that_the_tokenizer_cannot_write_are_left_out() -> None:
    few = find_connectors(Vocabulary((b"wait", b" ", b"so")))
    assert (few.words["reflection"], few.words["conclusion"], few.words["execution"]) == (("wait",), ("so",), ())
    assert (few.tokens["reflection"], few.tokens["conclusion"], few.tokens["execution"]) == ((0,), (2,), ())
    assert set(few.words) == set(FAMILIES)
