"""The texts of a trace: whole answers, with what a branch shares with its trunk, and characters of several tokens."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .trace_data import TraceChoice, TraceData


@dataclass(frozen=True)
class TraceToken:
    """A generated token of a whole answer: `position` counts from the answer's start; None is what has no record."""

    position: int
    text: str
    written: bytes
    token_id: int | None = None
    entropy: float | None = None  # nats
    in_reasoning: bool | None = None


def own_tokens(choice: TraceChoice) -> list[TraceToken]:
    """The tokens of a choice without those that it shares with its trunk."""
    first = first_position(choice)
    entropies = dict(zip(choice.positions, choice.entropies, strict=True))
    reasoning = dict(zip(choice.positions, choice.in_reasoning, strict=False))
    partial = {int(index): bytes.fromhex(written) for index, written in choice.token_bytes.items()}
    return [
        TraceToken(
            position=first + index,
            text=text,
            written=partial.get(index, text.encode()),
            token_id=choice.token_ids[index] if index < len(choice.token_ids) else None,
            entropy=entropies.get(first + index),
            in_reasoning=reasoning.get(first + index),
        )
        for index, text in enumerate(choice.tokens)
    ]


def first_position(choice: TraceChoice) -> int:
    """The position in the whole answer of the choice's first own token."""
    if choice.begun is not None:
        return choice.begun
    # an older server: the last token always has a record
    return max(choice.positions) + 1 - len(choice.tokens) if choice.positions else 0


def whole_tokens(trace: TraceData, index: int) -> list[TraceToken]:
    """The tokens of a whole answer, those of its trunk included. Raises LookupError for an index without a choice."""
    choice = next((one for one in trace.choices if one.index == index), None)
    if choice is None:
        raise LookupError(
            f"the trace has no choice {index}; it has {', '.join(str(one.index) for one in trace.choices)}"
        )
    node = next((one for one in trace.tree.nodes if one.index == index), None) if trace.tree is not None else None
    if node is None or node.parent is None or node.position is None:
        return own_tokens(choice)
    forced = [
        TraceToken(node.position + number, text, text.encode(), token_id, node.entropy if number == 0 else None)
        for number, (text, token_id) in enumerate(zip(node.tokens, node.token_ids, strict=True))
    ]
    return [*whole_tokens(trace, node.parent)[: node.position], *forced, *own_tokens(choice)]


def answered_index(trace: TraceData) -> int:
    """The choice whose answer the response gives: the one that a tree chose, else the first."""
    nodes = [] if trace.tree is None else trace.tree.nodes
    return next((node.index for node in nodes if node.chosen), trace.choices[0].index if trace.choices else 0)


def answer_start(tokens: Sequence[TraceToken]) -> int:
    """The index of the first token after the reasoning, as the text has one; 0 where none of it is reasoning."""
    return max((number for number, token in enumerate(tokens) if token.in_reasoning), default=-1) + 1


def text_of(tokens: Iterable[TraceToken], stop_token_ids: Iterable[int] = ()) -> str:
    """The text of tokens, without the token that ended the generation."""
    stops = set(stop_token_ids)
    written = [token.written for token in tokens if token.token_id is None or token.token_id not in stops]
    return b"".join(written).decode(errors="replace")


def whole_characters(tokens: Iterable[TraceToken]) -> Iterator[tuple[str, list[TraceToken]]]:
    """Yield texts that are whole characters, each with its tokens: mostly one, several where they share a character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    waiting: list[TraceToken] = []
    for token in tokens:
        waiting.append(token)
        text = decoder.decode(token.written)
        if not decoder.getstate()[0]:
            yield text, waiting
            waiting = []
        elif text:  # a character ends here, and the next one starts
            yield text, waiting[:]
            waiting = [token]
    if rest := decoder.decode(b"", final=True):
        yield rest, waiting
