"""A tokenizer's vocabulary as bytes, indexed by the pieces of words that its tokens can start, continue or end."""

from __future__ import annotations

import codecs
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.spec import InputError


def is_word_character(character: str) -> bool:
    """Letters of scripts with upper and lower case, digits and `_`; any other character bounds a word.

    Scripts without case, Chinese among them, are written without spaces, so each of their characters is a word of its
    own.
    """
    return character == "_" or character.isdigit() or character.lower() != character.upper()


def cuts(written: bytes) -> list[int]:
    """The offsets strictly inside these bytes at which a word may start or end, regardless of the partial characters
    around them."""
    text, begin, end = _whole_characters(written)
    found = [begin] if begin and text and not is_word_character(text[0]) else []
    offset = begin
    for left, right in itertools.pairwise(text):
        offset += len(left.encode())
        if not (is_word_character(left) and is_word_character(right)):
            found.append(offset)
    if end < len(written) and text and not is_word_character(text[-1]):
        found.append(end)
    return found


def leaves_word_free(written: bytes) -> bool:
    """Whether a new word may start after these bytes."""
    text, _, end = _whole_characters(written)
    return end == len(written) and bool(text) and not is_word_character(text[-1])


def is_marker_like(written: bytes) -> bool:
    """Whether these bytes, as the beginning of a marker, hardly begin anything else: two characters, one of them a
    sign."""
    text = written.decode(errors="ignore").strip()
    return len(text) > 1 and not all(is_word_character(one) or one.isspace() for one in text)


def _whole_characters(written: bytes) -> tuple[str, int, int]:
    """The whole characters in these bytes, between pieces of others, and the offsets at which they start and end."""
    begin = next((offset for offset, byte in enumerate(written) if byte & 0xC0 != 0x80), len(written))
    try:
        text, used = codecs.utf_8_decode(written[begin:], "strict", False)
    except UnicodeDecodeError:
        return "", 0, 0
    return text, begin, begin + used


@dataclass(frozen=True)
class Vocabulary:
    """`tokens[i]` is what token i writes, in bytes; empty for tokens that write nothing, such as the end of a turn."""

    tokens: Sequence[bytes]
    specials: frozenset[int] = field(default=frozenset())

    @property
    def size(self) -> int:
        return len(self.tokens)

    @cached_property
    def silent(self) -> frozenset[int]:
        """Tokens that write no text: the special ones, and ids that the tokenizer leaves empty."""
        return self.specials | {token for token, written in enumerate(self.tokens) if not written}

    def check_ids(self, token_ids: Sequence[int], path: str) -> None:
        """Raise InputError for an id that the vocabulary does not have."""
        for index, token in enumerate(token_ids):
            if token >= self.size:
                raise InputError(f"{path}[{index}]", f"there is no token {token}; ids run from 0 to {self.size - 1}")

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words that single tokens write, in lower case and sorted."""
        found = set()
        for token, written in enumerate(self.tokens):
            text = "" if token in self.specials else written.decode(errors="ignore").strip().lower()
            if text and all(map(is_word_character, text)):
                found.add(text)
        return tuple(sorted(found))

    @cached_property
    def by_stripped(self) -> Mapping[bytes, Sequence[int]]:
        """The tokens by what they write, without the white space around it."""
        found: dict[bytes, list[int]] = {}
        for token, written in enumerate(self.tokens):
            if token not in self.specials:
                found.setdefault(written.strip(), []).append(token)
        return found

    @cached_property
    def index(self) -> Index:
        """The look-up tables of this vocabulary; about a second for 150,000 tokens, so built once."""
        return _build_index(self)


@dataclass(frozen=True)
class Index:
    """Token ids by the lower-cased bytes of a part of the token.

    A cut is a place where a word may start or end. `whole`: the token is exactly these bytes. `head`: it starts with
    them and then comes a cut or its end. `tail`: it ends with them, after a cut. `span`: they stand between two cuts
    inside it, or between a cut and its end. `ends_word_free[i]`: after token i a new word may start. `longest`: the
    bytes of the longest token.
    """

    whole: dict[bytes, list[int]]
    head: dict[bytes, list[int]]
    tail: dict[bytes, list[int]]
    span: dict[bytes, list[int]]
    ends_word_free: NDArray[np.bool_]
    longest: int


def _build_index(vocabulary: Vocabulary) -> Index:
    whole, head, tail, span = (defaultdict[bytes, list[int]](list) for _ in range(4))
    ends_word_free = np.zeros(vocabulary.size, dtype=np.bool_)
    for token, written in enumerate(vocabulary.tokens):
        if not written or token in vocabulary.specials:
            ends_word_free[token] = True
            continue
        ends_word_free[token] = leaves_word_free(written)
        inside = cuts(written)
        lowered = written.lower()
        whole[lowered].append(token)
        for cut in (*inside, len(lowered)):
            head[lowered[:cut]].append(token)
        for begin in inside:
            tail[lowered[begin:]].append(token)
            for end in (*inside, len(lowered)):
                if end > begin:
                    span[lowered[begin:end]].append(token)
    return Index(dict(whole), dict(head), dict(tail), dict(span), ends_word_free, max(map(len, whole), default=0))
