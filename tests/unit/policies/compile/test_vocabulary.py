"""What bounds a word, and how tokens are indexed by their parts."""

from __future__ import annotations

import pytest

from forkpoint_policies.compile.vocabulary import Vocabulary, cuts, is_word_character, leaves_word_free
from forkpoint_policies.spec import InputError
from tests.unit.policies.vocabularies import END, THINK, VOCABULARY, token


@pytest.mark.parametrize("character", ["a", "Z", "7", "_", "é", "Ö", "ж", "λ", "ß", "٣"])
def test_letters_digits_and_underscores_make_words(character: str) -> None:
    assert is_word_character(character)


@pytest.mark.parametrize("character", [" ", "\n", ".", "-", "'", "“", "—", "<", "等", "あ", "한", "🤔"])
def test_other_characters_bound_words(character: str) -> None:
    assert not is_word_character(character)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (b"", []),
        (b"wait", []),
        (b" wait", [1]),
        (b"a b", [1, 2]),
        (b"no, so", [2, 3, 4]),
        ("é è".encode(), [2, 3]),
        ("等等".encode(), [3]),
        ("a等b".encode(), [1, 4]),
        # A piece of a character may be part of a letter: it is not separated from letters, only from others.
        (b" \xc3", [1]),
        (b"a\xc3", []),
        (b"\xa9 x", [1, 2]),
        (b"\xa9x", []),
        (b"\x89\xe7", []),
        (b"a \xff", []),
    ],
)
def test_cuts(written: bytes, expected: list[int]) -> None:
    assert cuts(written) == expected


@pytest.mark.parametrize(
    ("written", "free"),
    [
        (b" ", True), (b"wait ", True), (b"\n", True), ("“".encode(), True), ("等".encode(), True), (b"\xa9 ", True),
        (b"wait", False), (b" w", False), (b"3", False), ("é".encode(), False), (b"\xc3", False), (b" \xc3", False),
        (b"\xa9", False), (b"\xff", False),
    ],
)  # fmt: skip
def test_where_a_word_may_start(written: bytes, free: bool) -> None:
    assert leaves_word_free(written) == free


def test_a_word_may_start_after_tokens_that_write_nothing() -> None:
    free = VOCABULARY.index.ends_word_free
    assert free[END]
    assert free[THINK], "a special token bounds words, regardless of its text"


def test_parts_are_found_in_any_case() -> None:
    index = VOCABULARY.index
    assert {token("wait"), token("Wait"), token("WAIT")} == set(index.whole[b"wait"])
    assert {token(" Wait"), token("\nWait"), token('"Wait'), token("(wait)")} <= set(index.span[b"wait"])
    assert token("wait") not in index.span[b"wait"], "at the start of a token, the text before it decides"
    assert token("wait but") in index.head[b"wait"]
    assert token(" waiting") not in index.head.get(b"wait", [])
    assert token(" wai") in index.tail[b"wai"]


def test_special_tokens_spell_nothing() -> None:
    index = VOCABULARY.index
    assert all(
        THINK not in found for part in (index.whole, index.head, index.tail, index.span) for found in part.values()
    )


def test_token_ids_are_checked() -> None:
    vocabulary = Vocabulary((b"a", b"b", b""))
    vocabulary.check_ids([0, 2], "policy.x")
    with pytest.raises(InputError, match="ids run from 0 to 2") as caught:
        vocabulary.check_ids([1, 3], "policy.x")
    assert caught.value.field == "policy.x[1]"
