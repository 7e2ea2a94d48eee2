"""Verifies forks: continues a text from the likeliest alternatives of each, and looks at what comes of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.spec.answer_extractors import extractor
from forkpoint_server.branching.choice_output import text_of
from forkpoint_server.branching.seeds import derived_seed
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.traces.reasoning import after_reasoning, ends_in_reasoning
from forkpoint_server.vllm_seam import RequestOutputKind, SamplingParams, tokens_input

from .measure import Cost, Progress, Run
from .request import Asked
from .significance import Verdict, judge, p_value
from .tokenize import Text

TRUNCATED, UNANSWERED = 0, 1
"""Outcomes beside the answers: a continuation that reached its longest, and one in which nothing could be read."""

Outcome = str | int


@dataclass
class Way:
    """One alternative at a fork, and what its continuations came to."""

    token: int
    outcomes: Counter[Outcome] = field(default_factory=Counter)


@dataclass(frozen=True)
class Fork:
    """A position of the text, and the alternatives that are tried there."""

    index: int
    ways: tuple[Way, ...]

    def table(self) -> NDArray[np.int64]:
        """How often each way came to each outcome."""
        outcomes = sorted({outcome for way in self.ways for outcome in way.outcomes}, key=str)
        return np.array([[way.outcomes[outcome] for outcome in outcomes] for way in self.ways], np.int64)


@dataclass(frozen=True)
class Verification:
    """The forks that were tried, each with its verdict, and how many there were above the threshold."""

    asked: Asked
    seed: int
    longest: int
    above: int
    forks: tuple[Fork, ...]
    verdicts: tuple[Verdict, ...]
    cost: Cost


def chosen_forks(intervention: RequestContext, asked: Asked) -> tuple[tuple[Fork, ...], int]:
    """The forks with the highest entropies, or the positions asked for, in the text's order; and how many forks it has."""
    profile = intervention.traces[0].profile()
    above = np.flatnonzero(profile.entropy > intervention.fork_threshold)
    highest = sorted(above.tolist(), key=lambda place: (-profile.entropy[place], place))[: asked.most_forks]
    forks = []
    for index in sorted(asked.positions or (int(profile.position[place]) for place in highest)):
        tokens = profile.alternatives[index].tokens[: asked.alternatives]
        forks.append(Fork(index, tuple(Way(token) for token in tokens)))
    return tuple(forks), len(above)


async def verify(
    run: Run, intervention: RequestContext, text: Text, asked: Asked, forks: Sequence[Fork], above: int, seed: int, longest: int,
    progress: Progress,
) -> Verification:  # fmt: skip
    """Continue the text at these forks, `asked.verify` times from each of their ways, and judge them."""
    teller = _Teller(run, intervention, text, asked, seed, longest)
    jobs = iter([(fork, way, number) for fork in forks for way in fork.ways for number in range(asked.verify or 0)])
    tokens, requests = 0, 0

    async def work() -> None:
        nonlocal tokens, requests
        for fork, way, number in jobs:
            outcome, generated = await teller.outcome(fork, way, number)
            way.outcomes[outcome] += 1
            tokens, requests = tokens + generated, requests + bool(generated)
            progress(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(run.side_by_side(len(text.prompt) + len(text.tokens))):
            group.create_task(work())
    verdicts = await asyncio.to_thread(_judged, forks, asked.fdr, seed)
    return Verification(asked, seed, longest, above, tuple(forks), tuple(verdicts), Cost(requests, tokens))


def _judged(forks: Sequence[Fork], fdr: float, seed: int) -> list[Verdict]:
    p_values = [p_value(fork.table(), np.random.default_rng(derived_seed(seed, fork.index, -1))) for fork in forks]
    return judge(p_values, fdr)


@dataclass(frozen=True)
class _Teller:
    run: Run
    intervention: RequestContext
    text: Text
    asked: Asked
    seed: int
    longest: int

    async def outcome(self, fork: Fork, way: Way, number: int) -> tuple[Outcome, int]:
        """What one continuation comes to, and the tokens that it took."""
        begun = [*self.text.tokens[: fork.index], way.token]
        if way.token in self.run.stops:
            return self._read(begun), 0
        prompt = [*self.text.prompt, *begun]
        left = self.run.engine.model_config.max_model_len - len(prompt)
        if left < 1:
            return TRUNCATED, 0
        params = SamplingParams(
            temperature=self.asked.temperature,
            seed=derived_seed(derived_seed(self.seed, fork.index, way.token), number, -1),
            max_tokens=min(self.longest, left),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        name = f"{self.run.name}-{fork.index}-{way.token}-{number}"
        async with self.run.budget.slot():
            outputs = self.run.engine.generate_background(
                tokens_input(prompt), params, name, lora_request=self.run.lora, **self.run.rank
            )
            async with aclosing(outputs):
                async for output in outputs:
                    final = output.outputs[0]
        if final.finish_reason != "stop":
            return TRUNCATED, len(final.token_ids)
        return self._read([*begun, *final.token_ids]), len(final.token_ids)

    def _read(self, tokens: Sequence[int]) -> Outcome:
        target = self.intervention.model
        end = target.reasoning_end
        if ends_in_reasoning([*self.text.prompt, *tokens], target.reasoning_start, end):
            return UNANSWERED  # it ended inside its reasoning
        said = after_reasoning(tokens, end)
        answer = extractor(self.asked.extract)(text_of(said, target.vocabulary, SamplingParams()))
        return UNANSWERED if answer is None else answer
