"""Text of single tokens, as the served tokenizer writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from forkpoint_policies.compile.vocabulary import Vocabulary


class Detokenizer:
    """What tokens write."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def token(self, token: int) -> str:
        return self._written(token).decode(errors="replace")

    def text(self, tokens: Iterable[int]) -> str:
        return b"".join(map(self._written, tokens)).decode(errors="replace")

    def partial_bytes(self, tokens: Sequence[int], begin: int) -> dict[int, str]:
        """The bytes, in hexadecimal, of those that write no whole characters, by their place from `begin` on."""
        found = {}
        for place, token in enumerate(tokens, begin):
            written = self._written(token)
            try:
                written.decode()
            except UnicodeDecodeError:
                found[place] = written.hex()
        return found

    def _written(self, token: int) -> bytes:
        return self._vocabulary.tokens[token] if token < self._vocabulary.size else b""
