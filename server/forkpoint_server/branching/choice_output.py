"""A choice of the tree as vLLM would return it, had one request generated all of it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_server.vllm_seam import CompletionOutput, Logprob, SamplingParams

TokenLogprobs = dict[int, Logprob]
"""Of one position, by token."""

TAIL_TOKENS = 8
CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


@dataclass
class ChoiceOutput:
    """The whole `text` and `tokens` of a choice so far, with their `logprobs` where the engine returns them.

    In a branch, the first `shared_characters` are the parent's. Those after them, up to `seam`, are the text of the
    tokens with which the branch starts in place of the parent's next. Text before the seam that may turn out to be part
    of a stop string is held back. Stop strings count from the character `first_stop` on; with None, nowhere.
    """

    index: int
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    shared_characters: int = 0
    seam: int = 0
    first_stop: int | None = 0
    sent_characters: int = 0
    sent_tokens: int = 0
    _boundaries: list[tuple[int, int]] = field(default_factory=list)  # tokens and characters after each addition
    _bytes: bytearray = field(default_factory=bytearray)  # of the first tokens, as many as were needed so far
    _offsets: list[int] = field(default_factory=lambda: [0])  # where each of these tokens starts

    def add(self, delta: CompletionOutput, params: SamplingParams) -> None:
        """Append what the engine returned next; finish if the text around the seam holds a stop string."""
        self.text += delta.text
        self.tokens.extend(delta.token_ids)
        logprobs: Any = delta.logprobs or ()  # a list, or vLLM's flat equivalent
        self.logprobs.extend(logprobs)
        self._boundaries.append((len(self.tokens), len(self.text)))
        self.finish_reason, self.stop_reason = delta.finish_reason, delta.stop_reason
        self.stop_at_seam(params)

    @property
    def log_probability(self) -> float | None:
        """Of all tokens, in nats at temperature 1; None unless the engine returns log-probabilities."""
        if len(self.logprobs) < len(self.tokens) or not self.tokens:
            return None
        return sum(step[token].logprob for step, token in zip(self.logprobs, self.tokens, strict=False))

    def stop_at_seam(self, params: SamplingParams) -> None:
        """Finish at a stop string that starts in the shared text: vLLM searches only what a request generates."""
        if not self.seam or self.first_stop is None:
            return
        found, first = [], self.first_stop
        for stop in _stop_strings(params):  # the shared text alone holds none: the parent would have ended there
            at = self.text.find(stop, max(first, self.shared_characters - len(stop) + 1), self.seam + len(stop) - 1)
            if at >= 0:
                found.append((at, stop))
        if found:
            at, stop = min(found)
            self.text = self.text[: at + (len(stop) if params.include_stop_str_in_output else 0)]
            self.finish_reason, self.stop_reason = "stop", stop

    def bytes_until(self, position: int, vocabulary: Vocabulary, params: SamplingParams) -> bytes:
        """The bytes of the tokens before a position."""
        for token in self.tokens[len(self._offsets) - 1 : position]:
            self._bytes += bytes_of([token], vocabulary, params)
            self._offsets.append(len(self._bytes))
        return bytes(self._bytes[: self._offsets[min(position, len(self._offsets) - 1)]])

    def whole(self, params: SamplingParams) -> CompletionOutput:
        """All of it, but for text that is held back."""
        return self._completion(self.text[: self._sendable(params)], self.tokens, self.logprobs, params)

    def delta(self, params: SamplingParams) -> CompletionOutput | None:
        """What was not sent yet, now marked as sent; None if there is nothing new."""
        until = self._sendable(params)
        text, tokens = self.text[self.sent_characters : until], self.tokens[self.sent_tokens :]
        if not text and not tokens and self.finish_reason is None:
            return None
        logprobs = self.logprobs[self.sent_tokens :]
        self.sent_characters, self.sent_tokens = max(until, self.sent_characters), len(self.tokens)
        return self._completion(text, tokens, logprobs, params)

    def settled_delta(self, num_settled: int, params: SamplingParams) -> CompletionOutput | None:
        """What is new among the first `num_settled` tokens, the only ones that are certain; None if nothing is."""
        reached = bisect_right(self._boundaries, num_settled, key=lambda boundary: boundary[0])
        tokens, characters = self._boundaries[reached - 1] if reached else (0, 0)
        characters = min(characters, len(self.text))  # a stop string may have been cut off
        if tokens <= self.sent_tokens or characters < self.sent_characters:
            return None
        text, logprobs = self.text[self.sent_characters : characters], self.logprobs[self.sent_tokens : tokens]
        completion = self._completion(text, self.tokens[self.sent_tokens : tokens], logprobs, params)
        completion.finish_reason = completion.stop_reason = None
        self.sent_characters, self.sent_tokens = characters, tokens
        return completion

    def _sendable(self, params: SamplingParams) -> int:
        """How many characters cannot become part of a stop string at the seam."""
        longest = max(map(len, _stop_strings(params)), default=0)
        held = self.seam and self.first_stop is not None
        if self.finish_reason is None and held and longest and len(self.text) - self.seam < longest - 1:
            return max(self.sent_characters, self.seam - longest + 1)
        return len(self.text)

    def _completion(
        self, text: str, tokens: Sequence[int], logprobs: list[TokenLogprobs], params: SamplingParams
    ) -> CompletionOutput:
        requested = params.num_logprobs is not None
        return CompletionOutput(
            index=self.index,
            text=text,
            token_ids=list(tokens),
            cumulative_logprob=self.log_probability if requested else None,
            logprobs=list(logprobs) if requested else None,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )


def branch_output(
    index: int, parent: ChoiceOutput, position: int, tokens: Sequence[int], probability: float, vocabulary: Vocabulary,
    params: SamplingParams, first_stop: int | None = 0,
) -> ChoiceOutput:  # fmt: skip
    """The output of a branch before it generates: what it shares with its parent up to a position, then these tokens.

    The first token has this probability at temperature 1; the policy wrote those after it, so that they are certain.
    """
    shared, shared_bytes = parent.tokens[:position], parent.bytes_until(position, vocabulary, params)
    text = (shared_bytes + bytes_of(tokens, vocabulary, params)).decode(errors="replace")
    logprobs = parent.logprobs[:position]
    if parent.logprobs:
        logprobs += _branch_logprobs(parent, position, tokens, probability, vocabulary, params)
    shared_characters = len(shared_bytes.decode(errors="replace"))
    output = ChoiceOutput(
        index,
        text,
        [*shared, *tokens],
        logprobs,
        shared_characters=shared_characters,
        seam=len(text),
        first_stop=first_stop,
    )
    output.stop_at_seam(params)
    return output


def _branch_logprobs(
    parent: ChoiceOutput, position: int, tokens: Sequence[int], probability: float, vocabulary: Vocabulary,
    params: SamplingParams,
) -> list[TokenLogprobs]:  # fmt: skip
    """Of the tokens with which a branch starts; beside the first, the likeliest ones that its parent has there."""
    here = parent.logprobs[position] if position < len(parent.logprobs) else {}
    sampled = parent.tokens[position] if position < len(parent.tokens) else None
    likeliest = {token: logprob for token, logprob in here.items() if token != sampled or _is_top(logprob, params)}
    found: list[TokenLogprobs] = []
    for number, token in enumerate(tokens):
        nats = math.log(probability) if not number else 0.0
        own = Logprob(nats, None, text_of([token], vocabulary, params))
        if number:
            found.append({token: own})
        else:
            found.append({token: likeliest.get(token, own), **{one: p for one, p in likeliest.items() if one != token}})
    return found


def _is_top(logprob: Logprob, params: SamplingParams) -> bool:
    """Whether the token would appear in `logprobs` had another been sampled."""
    return logprob.rank is not None and logprob.rank <= (params.logprobs or 0)


def text_of(tokens: Sequence[int], vocabulary: Vocabulary, params: SamplingParams) -> str:
    """The text of tokens in the middle of a text."""
    return bytes_of(tokens, vocabulary, params).decode(errors="replace")


def bytes_of(tokens: Iterable[int], vocabulary: Vocabulary, params: SamplingParams) -> bytes:
    """The bytes of tokens in the middle of a text, which may end within a character."""
    skipped = vocabulary.silent if params.skip_special_tokens else frozenset[int]()
    return b"".join(vocabulary.tokens[token] for token in tokens if token not in skipped)


def ends_at_character(tokens: Sequence[int], vocabulary: Vocabulary) -> bool:
    """Whether these tokens end at the end of a character: a branch cannot start in the middle of one."""
    tail = b"".join(vocabulary.tokens[token] for token in tokens[-TAIL_TOKENS:])
    if len(tokens) > TAIL_TOKENS:  # the tail itself may start in the middle of a character
        tail = tail.lstrip(CONTINUATION_BYTES)
    try:
        tail.decode()
    except UnicodeDecodeError:
        return False
    return True


def _stop_strings(params: SamplingParams) -> list[str]:
    stop: Any = params.stop
    return [stop] if isinstance(stop, str) else list(stop or ())
