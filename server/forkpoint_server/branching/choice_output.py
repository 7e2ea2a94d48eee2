"""An answer of the tree as vLLM would give it, had one request written it whole: shared tokens first, then a branch's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_server.vllm_seam import CompletionOutput, Logprob, SamplingParams

Step = dict[int, Logprob]

TAIL_TOKENS = 8
CONTINUATION_BYTES = bytes(range(0x80, 0xC0))


@dataclass
class Answer:
    """What has come of an answer: whole `text`, `tokens`, and `steps`, their log probabilities where the engine gives them.

    Of a branch, the first `shared` characters are its parent's, and those up to `begun` stand in the place of the parent's next:
    what may yet turn out to be part of a stop string there is not given out before.
    """

    index: int
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    shared: int = 0
    begun: int = 0
    given_characters: int = 0
    given_tokens: int = 0
    _written: list[tuple[int, int]] = field(default_factory=list)  # tokens and characters, after each addition

    def add(self, output: CompletionOutput, params: SamplingParams) -> None:
        """Take what the engine gave, a difference to what it gave before; end where text and seam together hold a stop string."""
        self.text += output.text
        self.tokens.extend(output.token_ids)
        steps: Any = output.logprobs or ()  # a list, or vLLM's own flat one of the same items
        self.steps.extend(steps)
        self._written.append((len(self.tokens), len(self.text)))
        self.finish_reason, self.stop_reason = output.finish_reason, output.stop_reason
        self.stop_at_seam(params)

    @property
    def log_probability(self) -> float | None:
        """Of all tokens, in nats at temperature 1, where the engine gives log probabilities."""
        if len(self.steps) < len(self.tokens) or not self.tokens:
            return None
        return sum(step[token].logprob for step, token in zip(self.steps, self.tokens, strict=False))

    def stop_at_seam(self, params: SamplingParams) -> bool:
        """vLLM looks for stop strings in what a request generates; here also where they begin in what the branch shares."""
        longest = max(map(len, _stops(params)), default=0)
        if not self.begun or not longest:
            return False
        found = []
        for stop in _stops(params):  # of what is shared alone none is one: the request would have ended
            at = self.text.find(stop, max(0, self.shared - len(stop) + 1), self.begun + len(stop) - 1)
            if at >= 0:
                found.append((at, stop))
        if not found:
            return False
        at, stop = min(found)
        self.text = self.text[: at + (len(stop) if params.include_stop_str_in_output else 0)]
        self.finish_reason, self.stop_reason = "stop", stop
        return True

    def output(self, params: SamplingParams, difference: bool) -> CompletionOutput | None:
        """What is to be given out now: all of it, or what is new; None where that is nothing."""
        until = len(self.text)
        if self.finish_reason is None:
            longest = max(map(len, _stops(params)), default=0)
            if self.begun and longest and len(self.text) - self.begun < longest - 1:
                until = max(self.given_characters, self.begun - longest + 1)
        if not difference:
            return self._made(self.text[:until], self.tokens, self.steps, params)
        text, tokens = self.text[self.given_characters : until], self.tokens[self.given_tokens :]
        if not text and not tokens and self.finish_reason is None:
            return None
        steps = self.steps[self.given_tokens :]
        self.given_characters, self.given_tokens = max(until, self.given_characters), len(self.tokens)
        return self._made(text, tokens, steps, params)

    def certain(self, tokens: int, params: SamplingParams) -> CompletionOutput | None:
        """What is new among the first so many tokens of an answer that may yet be left for another one; None where nothing is."""
        until, characters = max((one for one in self._written if one[0] <= tokens), default=(0, 0))
        characters = min(characters, len(self.text))  # of which a stop string may have been taken
        if until <= self.given_tokens or characters < self.given_characters:
            return None
        text, steps = self.text[self.given_characters : characters], self.steps[self.given_tokens : until]
        made = self._made(text, self.tokens[self.given_tokens : until], steps, params)
        made.finish_reason = made.stop_reason = None
        self.given_characters, self.given_tokens = characters, until
        return made

    def _made(self, text: str, tokens: Sequence[int], steps: list[Step], params: SamplingParams) -> CompletionOutput:
        asked = params.logprobs is not None
        return CompletionOutput(
            index=self.index,
            text=text,
            token_ids=list(tokens),
            cumulative_logprob=self.log_probability if asked else None,
            logprobs=list(steps) if asked else None,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )


def branched(
    index: int, answer: Answer, position: int, given: Sequence[int], probability: float, vocabulary: Vocabulary,
    params: SamplingParams,
) -> Answer:  # fmt: skip
    """The beginning of an answer that leaves another one at a position with these tokens.

    The first has this probability at temperature 1; those after it were written by the policy, so that they are certain.
    """
    tokens = [*answer.tokens[:position], *given]
    text = text_of(tokens, vocabulary, params)
    steps = answer.steps[:position]
    if answer.steps:
        here = answer.steps[position] if position < len(answer.steps) else {}
        likeliest = {
            one: told for one, told in here.items() if one != answer.tokens[position] or _asked_for(told, params)
        }
        for place, token in enumerate(given):
            own = Logprob(math.log(probability) if not place else 0.0, None, text_of([token], vocabulary, params))
            entry = likeliest.get(token, own) if not place else own
            steps.append({token: entry, **{one: told for one, told in likeliest.items() if one != token and not place}})
    shared = len(text_of(answer.tokens[:position], vocabulary, params))
    found = Answer(index, text, tokens, steps, shared=shared, begun=len(text))
    found.stop_at_seam(params)
    return found


def _asked_for(told: Logprob, params: SamplingParams) -> bool:
    """Whether a token would be told of had another been drawn: it is one of the likeliest."""
    return told.rank is not None and told.rank <= (params.logprobs or 0)


def text_of(tokens: Sequence[int], vocabulary: Vocabulary, params: SamplingParams) -> str:
    """The text of tokens in the middle of a text."""
    skipped = vocabulary.silent if params.skip_special_tokens else frozenset[int]()
    return b"".join(vocabulary.tokens[token] for token in tokens if token not in skipped).decode(errors="replace")


def whole_characters(vocabulary: Vocabulary) -> Callable[[Sequence[int]], bool]:
    """Whether some tokens end at the end of a character: a branch cannot begin in the middle of one."""

    def whole(tokens: Sequence[int]) -> bool:
        tail = b"".join(vocabulary.tokens[token] for token in tokens[-TAIL_TOKENS:])
        if len(tokens) > TAIL_TOKENS:  # the tail itself may begin in the middle of a character
            tail = tail.lstrip(CONTINUATION_BYTES)
        try:
            tail.decode()
        except UnicodeDecodeError:
            return False
        return True

    return whole


def _stops(params: SamplingParams) -> list[str]:
    stop: Any = params.stop
    return [stop] if isinstance(stop, str) else list(stop or ())
