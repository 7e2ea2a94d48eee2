"""Text of single tokens, as the served tokenizer writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forkpoint_policies.compile.vocabulary import Vocabulary


class Detokenizer:
    """Turns tokens into text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def token(self, token: int) -> str:
        return self._written(token).decode(errors="replace")

    def text(self, tokens: Iterable[int]) -> str:
        return b"".join(map(self._written, tokens)).decode(errors="replace")

    def partial_bytes(self, tokens: Sequence[int], first: int) -> dict[int, str]:
        """The bytes, in hexadecimal, of tokens that are not whole characters, by their index counted from `first`."""
        found = {}
        for index, token in enumerate(tokens, first):
            written = self._written(token)
            try:
                written.decode()
            except UnicodeDecodeError:
                found[index] = written.hex()
        return found

    def _written(self, token: int) -> bytes:
        return self._vocabulary.tokens[token] if 0 <= token < self._vocabulary.size else b""
