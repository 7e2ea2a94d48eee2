"""A made-up byte-level vocabulary: every single byte, assorted merges, and some tokens that write nothing."""

from __future__ import annotations

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.compile.regions import single_token_regions
from forkpoint_policies.compile.vocabulary import Vocabulary
from tests.unit.policies.hidden.artefact_files import VECTOR, readout

MERGES = (
    "Wa", "it", "ai", "ait", " w", " W", "Wait", " Wait", "wait", " wait", "WAIT", " wai", "\nWait", "\n\nwait",
    '"Wait', "(wait)", "...wait...", "...wa", ", wait", " waiting", "wait but", "wa", " wa", "ing", "Waiting", "so",
    "So", " so", ", so", ", so,", " so so", "now", " now", "know", " know", "kn", "ow", "snow", "now-", "other",
    " other", "another", " another", "an", " an", "ano", "ther", "the", "but", "But", " but", "button", "butt",
    "double", " double", "double-", "dou", "ble-ch", "-check", "-ch", "check", " check", "eck", "e-c", "double-check",
    " double-check", "recheck", "in", " in", "In", "in con", " con", " conclusion", "conclusion", "clusion",
    "in conclusion", " in conclusion,", "n c", "let", "let's", "'s", "t'", " let", "等", "等等", " 等", "等。", "。",
    "、", "、等", "x等", "é", "É", " é", "ég", "gal", "gale", "ment", "également", " également", "Également", "tement",
    "caf", "café", "—", "“", "”", "…", "“Wait", "?!", "??", "  ", "\n\n", ".\n", ", ", ". ", "wait_", "wait3", "é w",
    # pieces of characters
    b" \xc3", b"\xa9g", b"\xa9 ", b"\xa9galement", b"\xe7\xad", b" \xe7", b"\x89\xe7\xad\x89", b"\x89\xe7", b"\xad\x89",
    b"\x89wait",
)  # fmt: skip


def byte_vocabulary(*merges: str | bytes) -> Vocabulary:
    """The 256 bytes, token i for byte i, then these merges; last, three tokens that write nothing, despite
    their text."""
    written = [bytes([value]) for value in range(256)]
    written += [merge.encode() if isinstance(merge, str) else merge for merge in merges]
    written += [b"<think>", b"</think>", b""]
    return Vocabulary(tuple(written), frozenset(range(len(written) - 3, len(written))))


VOCABULARY = byte_vocabulary(*MERGES)
SIZE = VOCABULARY.size
THINK, END_THINK, END = range(SIZE - 3, SIZE)


_TOKEN_BY_TEXT = {VOCABULARY.tokens[one]: one for one in reversed(range(SIZE - 3))}
_LONGEST_BYTES = max(map(len, _TOKEN_BY_TEXT))


def encode(text: str) -> list[int]:
    """The longest token first, as a tokenizer of these tokens would."""
    left, found = text.encode(), []
    while left:
        written = next(left[:size] for size in range(_LONGEST_BYTES, 0, -1) if left[:size] in _TOKEN_BY_TEXT)
        found.append(_TOKEN_BY_TEXT[written])
        left = left[len(written) :]
    return found


TARGET = ServedModel(
    VOCABULARY,
    fork_threshold=0.672,
    regions=single_token_regions(THINK, END_THINK),
    stop=END,
    encode=encode,
    artefacts={"correct": readout(), "seal": VECTOR},
    hidden_layers=VECTOR.layers,
    recycle_layers=(0, 23, 1023),  # the default of `recycle`, and the bounds of its parameter
)
UNMARKED = ServedModel(VOCABULARY, fork_threshold=0.672)


def token(written: str | bytes) -> int:
    """The token that writes exactly this text."""
    return VOCABULARY.tokens.index(written.encode() if isinstance(written, str) else written)


def tokens(written: str | bytes) -> list[int]:
    """The tokens of a text in which "|" stands between them, as in "W|ait"."""
    return [token(one) for one in (written.encode() if isinstance(written, str) else written).split(b"|")]


def padded(size: int) -> Vocabulary:
    """The vocabulary padded to a size with tokens that write nothing, like a model with more logits than its
    tokenizer ids."""
    return Vocabulary((*VOCABULARY.tokens, *[b""] * (size - SIZE)), VOCABULARY.specials)
