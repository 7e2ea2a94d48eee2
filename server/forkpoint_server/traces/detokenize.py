"""Text of single tokens, as the served tokenizer writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from forkpoint_policies.compile.vocabulary import Vocabulary


class Detokenizer:
    """Turns tokens into text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def token(self, token: int) -> str:
        return self._written(token).decode(errors="replace")

    def to_dict(self, token: int) -> dict[str, Any]:
        """The token as text, by its id and as bytes: the text of one that is no whole character is not exact."""
        return {"token": self.token(token), "token_id": token, "bytes": list(self._written(token))}

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
