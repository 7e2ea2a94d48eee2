"""Verifies forks: samples continuations from the likeliest alternatives of each, and compares their answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forkpoint_server.answers import read_answer
from forkpoint_server.branching.choice_output import text_of
from forkpoint_server.branching.seeds import derived_seed
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.vllm_seam import RequestOutputKind, SamplingParams, tokens_input

from .measure import Cost, EngineSession, Progress
from .request import ForksRequest
from .significance import NO_FORK, Verdict, judge, p_value
from .tokenize import Text

TRUNCATED, NO_ANSWER = 0, 1
"""Outcomes besides the answers: a continuation that reached `max_tokens`, and one without a readable answer."""

Outcome = str | int

VERIFICATION_BYTES, FORK_BYTES, OUTCOME_BYTES = 40_000, 2_000, 300
"""Of a verification: its settings with up to 1,024 positions, a fork with its alternatives, a different outcome."""


@dataclass
class Alternative:
    """One alternative at a fork, and the outcomes of its continuations."""

    token: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)


@dataclass(frozen=True)
class Fork:
    """A position of the text, and the alternatives continued there; nothing is continued if there is only one."""

    index: int
    alternatives: tuple[Alternative, ...]

    @property
    def tried(self) -> bool:
        """Whether there is more than one way to continue."""
        return len(self.alternatives) > 1

    def table(self) -> NDArray[np.int64]:
        """Counts of outcomes, [alternatives, outcomes]."""
        outcomes = sorted({outcome for alternative in self.alternatives for outcome in alternative.outcomes}, key=str)
        return np.array(
            [[alternative.outcomes[outcome] for outcome in outcomes] for alternative in self.alternatives], np.int64
        )


@dataclass(frozen=True)
class Verification:
    """The continued forks with their verdicts; `num_above` is the number of positions above the threshold.

    It is stored with the text's trace, so `request` is without its text.
    """

    request: ForksRequest
    seed: int
    max_tokens: int
    num_above: int
    forks: tuple[Fork, ...]
    verdicts: tuple[Verdict, ...]
    cost: Cost

    @property
    def num_bytes(self) -> int:
        """The memory that it takes, rounded up."""
        outcomes = [outcome for fork in self.forks for one in fork.alternatives for outcome in one.outcomes]
        texts = sum(len(outcome) for outcome in outcomes if isinstance(outcome, str))
        return VERIFICATION_BYTES + FORK_BYTES * len(self.forks) + OUTCOME_BYTES * len(outcomes) + 4 * texts


def select_forks(context: RequestContext, request: ForksRequest) -> tuple[tuple[Fork, ...], int]:
    """The highest-entropy forks or the requested positions, in the text's order; and the number of all forks."""
    profile = context.traces[0].profile()
    above = np.flatnonzero(profile.entropy > context.fork_threshold)
    highest = sorted(above.tolist(), key=lambda row: (-profile.entropy[row], row))[: request.most_forks]
    forks = []
    for index in sorted(request.positions or (int(profile.position[row]) for row in highest)):
        likeliest = profile.alternatives[index]
        possible = [
            Alternative(token)
            for token, probability in zip(likeliest.tokens, likeliest.probabilities, strict=True)
            if probability >= request.min_probability
        ]
        forks.append(Fork(index, tuple(possible[: request.alternatives])))
    return tuple(forks), len(above)


async def verify(
    session: EngineSession, context: RequestContext, text: Text, request: ForksRequest, forks: Sequence[Fork],
    num_above: int, seed: int, max_tokens: int, progress: Progress,
) -> Verification:  # fmt: skip
    """Sample `request.verify` continuations from each alternative of these forks; test if their outcomes differ."""
    sampler = _ContinuationSampler(session, context, text, request, seed, max_tokens)
    jobs = iter(
        [
            (fork, alternative, number)
            for fork in forks
            if fork.tried
            for alternative in fork.alternatives
            for number in range(request.verify or 0)
        ]
    )
    tokens, requests = 0, 0

    async def work() -> None:
        nonlocal tokens, requests
        for fork, alternative, number in jobs:
            outcome, generated = await sampler.outcome(fork, alternative, number)
            alternative.outcomes[outcome] += 1
            tokens, requests = tokens + generated, requests + bool(generated)
            progress(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(session.max_concurrent(len(text.prompt) + len(text.tokens))):
            group.create_task(work())
    verdicts = await asyncio.to_thread(_verdicts, forks, request.fdr, seed)
    cost, settings = Cost(requests, tokens), request.without_text()
    return Verification(settings, seed, max_tokens, num_above, tuple(forks), tuple(verdicts), cost)


def _verdicts(forks: Sequence[Fork], fdr: float, seed: int) -> list[Verdict]:
    """A position without two alternatives is no fork, and none of the family of tests."""
    tried = [fork for fork in forks if fork.tried]
    p_values = [p_value(fork.table(), np.random.default_rng(derived_seed(seed, fork.index, -1))) for fork in tried]
    judged = dict(zip((fork.index for fork in tried), judge(p_values, fdr), strict=True))
    return [judged.get(fork.index, NO_FORK) for fork in forks]


@dataclass(frozen=True)
class _ContinuationSampler:
    session: EngineSession
    context: RequestContext
    text: Text
    request: ForksRequest
    seed: int
    max_tokens: int

    async def outcome(self, fork: Fork, alternative: Alternative, number: int) -> tuple[Outcome, int]:
        """Sample one continuation; its outcome, and the number of tokens generated."""
        written = [*self.text.tokens[: fork.index], alternative.token]
        if alternative.token in self.session.stops:
            return await self._read(written), 0
        prompt = [*self.text.prompt, *written]
        left = self.session.engine.model_config.max_model_len - len(prompt)
        if left < 1:
            return TRUNCATED, 0
        params = SamplingParams(
            temperature=self.request.temperature,
            seed=derived_seed(derived_seed(self.seed, fork.index, alternative.token), number, -1),
            max_tokens=min(self.max_tokens, left),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = f"{self.session.name}-{fork.index}-{alternative.token}-{number}"
        async with self.session.budget.slot():
            outputs = self.session.engine.generate_background(
                tokens_input(prompt), params, name, lora_request=self.session.lora, **self.session.rank
            )
            async with aclosing(outputs):
                async for output in outputs:
                    final = output.outputs[0]
        if final.finish_reason != "stop":
            return TRUNCATED, len(final.token_ids)
        return await self._read([*written, *final.token_ids]), len(final.token_ids)

    async def _read(self, tokens: Sequence[int]) -> Outcome:
        model = self.context.model
        regions = model.regions.read(tokens, model.answer_start(self.text.prompt).region)
        if regions.ends_in_reasoning:
            return NO_ANSWER
        answer_tokens = tokens[regions.answer_start :]
        answer = await read_answer(self.request.extract, text_of(answer_tokens, model.vocabulary, SamplingParams()))
        return NO_ANSWER if answer is None else answer
