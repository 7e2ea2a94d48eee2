"""Requests what findings need from a server, each thing once: answers, traces and verified positions are shared and
stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import openai

from forkpoint_clients.ab.run import seed_of
from forkpoint_clients.evaluate.asker import (
    Answer,
    Asker,
    Question,
    SamplingParams,
    ServerLostError,
    ServerRefusesError,
)
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.dose_search import closest, search
from forkpoint_clients.evaluate.doses import PLACEBO, mean_dose
from forkpoint_clients.evaluate.journal import Journal, JournalError, Unit
from forkpoint_clients.evaluate.scorers import Scorer, ScorerError

from .reading import EntropyTrace, ScoredChoices, trace_of, with_sampled_entropy

Answers = Mapping[tuple[str, int], ScoredChoices]
"""(question, sample) -> the scored answer."""


CALIBRATION_ANSWERS = 16
"""Of a policy, and of its placebo at each strength that is tried."""


class CannotError(Exception):
    """The server lacks something that a finding needs; the message says what."""


@dataclass(frozen=True)
class Reading:
    """What is read of each answer while the server still has its trace: stored under the `name`.

    `read` is called with the question and the answer. It may raise CannotError.
    """

    name: str
    read: Callable[[Asker, Item, Answer], Awaitable[Any]]


@dataclass(frozen=True)
class Treatment:
    """How questions are answered, under a name: equal treatments share their answers.

    `answers` counts a request's choices. With `sampled_entropy`, answers have the mean entropy in nats of the
    distributions that their tokens were sampled from, at the temperature: estimated by the surprise of these tokens.
    A `reading` needs `traced`.
    """

    name: str
    policy: str | Mapping[str, Any] = "observe"
    temperature: float = 1.0
    answers: int = 1
    traced: bool = False
    sampled_entropy: bool = False
    reading: Reading | None = None

    @property
    def key(self) -> str:
        """A hash that equal treatments share: 16 hex digits."""
        settings = [self.policy, self.temperature, self.answers, self.traced]
        settings += ["sampled entropy"] if self.sampled_entropy else []
        settings += [self.reading.name] if self.reading else []
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


BASELINE = Treatment("no policy", "observe", traced=True)
"""`observe` changes nothing, and its traces hold the entropies: every finding starts from these answers."""


def placebo_by_dose(policy: str, strength_nats: float) -> Treatment:
    """A library policy's placebo, matched by dose."""
    by_dose = {"use": f"{policy}{PLACEBO}", "with": {"match": "dose", "strength": strength_nats}}
    return Treatment(f"{policy}, placebo by dose", by_dose)


@dataclass(frozen=True)
class LabSetting:
    """The questions (`short` ones for tests with many continuations), and how they are answered and compared."""

    items: Sequence[Item]
    short: Sequence[Item]
    scorer: Scorer
    samples: int = 1
    seed: int = 0
    max_tokens: int | None = None
    extract: str = "last_line"
    leaves: int = 4
    continuations: int = 12
    min_probability: float = 0.05
    verify_every: int = 5
    min_verified: int = 10
    quick: bool = False

    @property
    def verified(self) -> Sequence[Item]:
        """The questions whose texts have positions verified: each position takes dozens of continuations."""
        return self.short[: max(self.min_verified, len(self.items) // self.verify_every)]

    def first(self, count: int) -> LabSetting:
        """The same setting with the first `count` questions only."""
        return replace(self, items=self.items[:count], short=self.short[:count])


@dataclass
class Cost:
    """The requests and tokens of this run, without those already on disk."""

    requests: int = 0
    tokens: int = 0


@dataclass
class Lab:
    """One model of one server, shared by all findings.

    `progress` is called with a description, the number done and their total.
    """

    setting: LabSetting
    asker: Asker
    journal: Journal
    concurrency: int = 24
    progress: Callable[[str, int, int], None] = lambda *_: None
    cost: Cost = field(default_factory=Cost)
    _valid: set[str] = field(default_factory=set)

    async def ask(
        self, treatments: Sequence[Treatment], items: Sequence[Item] | None = None, samples: int | None = None
    ) -> dict[str, Answers]:
        """Answers by the treatment's name; all treatments have the same questions and seeds, interleaved.

        Raises CannotError if the server rejects a policy, JournalError if stored answers are from another policy, and
        as Asker.ask does.
        """
        items, samples = self.setting.items if items is None else items, samples or self.setting.samples
        return await self._ask(treatments, items, range(samples))

    async def check(self, treatments: Sequence[Treatment]) -> None:
        """Raises CannotError if the server rejects one of the policies, and JournalError as `ask` does."""
        for treatment in treatments:
            await self._check(treatment)

    async def with_dose(self, policy: str) -> Treatment | None:
        """The placebo of a library policy, by the dose that the policy has: its strength is searched.

        On CALIBRATION_ANSWERS answers of each, with seeds that no finding uses. None if the policy changes nothing.
        Raises as `ask` does.
        """
        items = self.setting.items[:CALIBRATION_ANSWERS]
        samples = range(-math.ceil(CALIBRATION_ANSWERS / len(items)), 0)

        async def measure(treatment: Treatment) -> float | None:
            found = (await self._ask([treatment], items, samples))[treatment.name]
            return mean_dose(scored.answer for scored in found.values())

        dose = await measure(Treatment(policy, policy))
        if not dose:
            return None

        async def of_strength(strength_nats: float) -> float | None:
            return await measure(placebo_by_dose(policy, strength_nats))

        best = closest(await search(of_strength, dose), dose)
        return None if best is None else placebo_by_dose(policy, best)

    async def _ask(
        self, treatments: Sequence[Treatment], items: Sequence[Item], samples: Sequence[int]
    ) -> dict[str, Answers]:
        await self.check(treatments)
        # the missing units, in random order within a question
        by_id = {item.id: item for item in items}
        wanted = {
            Unit(item.id, sample, treatment.key): treatment
            for treatment in treatments
            for item in items
            for sample in samples
        }
        order = sorted((unit for unit in wanted if unit not in self.journal.answers), key=str)
        random.Random(self.setting.seed).shuffle(order)
        # the treatments of a question next to each other, in random order
        order.sort(key=lambda unit: (unit.sample, unit.question))
        names = ", ".join(treatment.name for treatment in treatments)
        remaining, done = iter(order), 0

        async def work(units: Iterator[Unit]) -> None:
            nonlocal done
            for unit in units:
                self._store(unit, await self._answer(by_id[unit.question], unit.sample, wanted[unit]))
                done += 1
                self.progress(names, done, len(order))

        await self._concurrently(work(remaining) for _ in range(min(self.concurrency, len(order))))
        # all of them, from the journal
        return {
            treatment.name: {
                (item.id, sample): self._read(item, self.journal.answers[Unit(item.id, sample, treatment.key)])
                for item in items
                for sample in samples
            }
            for treatment in treatments
        }

    async def recycle_layers(self) -> tuple[int, ...]:
        """The layers that the server can run again. Raises CannotError if there are none, and ServerLostError."""
        try:
            layers = (await self.asker.get("/vectors")).get("recycle_layers")
        except ServerRefusesError as error:
            raise CannotError(str(error)) from None
        if not layers:
            raise CannotError(
                f"needs a server that was started with --recycle-layers N, which {self.asker.url} was not: layer N is "
                "run again"
            )
        return tuple(layers)

    async def verify(
        self, positions: Mapping[str, Sequence[int]], texts: Mapping[str, EntropyTrace]
    ) -> dict[str, list[dict[str, Any]]]:
        """Verify these positions of each question's text: question -> one object of `POST /v1/forks` per position.

        Raises CannotError if the server has no such route or rejects a text, and ServerLostError.
        """
        items = {item.id: item for item in self.setting.short}
        settings = f"{self.setting.continuations} from {self.setting.min_probability}"
        units = {
            question: Unit(question, 0, f"verify {settings} {list(positions[question])}") for question in positions
        }
        remaining = iter([question for question, unit in units.items() if unit not in self.journal.answers])
        done = 0

        async def work(questions: Iterator[str]) -> None:
            nonlocal done
            for question in questions:
                self._store(
                    units[question], await self._verified(items[question], texts[question], positions[question])
                )
                done += 1
                self.progress("verifying positions", done, len(positions))

        await self._concurrently(work(remaining) for _ in range(3))
        return {
            question: list((self.journal.answers[unit].forkpoint or {})["positions"])
            for question, unit in units.items()
        }

    async def _verified(self, item: Item, text: EntropyTrace, positions: Sequence[int]) -> Answer:
        body = {
            "model": self.asker.model,
            "messages": [*item.messages, {"role": "assistant", "content": text.content, "reasoning": text.reasoning}],
            "verify": self.setting.continuations,
            "positions": list(positions),
            "min_probability": self.setting.min_probability,
            "extract": self.setting.extract,
            "seed": seed_of(self.setting.seed, item.id, 0),
        }
        try:
            report = await self.asker.client.post("/forks", body=body, cast_to=dict[str, Any])
        except openai.APIError as error:
            try:
                reason = self.asker.reason(error)
            except ServerRefusesError as refusal:
                reason = str(refusal)
            raise CannotError(f"POST /v1/forks: {reason}") from None
        return Answer(tokens=report["cost"]["tokens"], forkpoint=report["verification"])

    async def _answer(self, item: Item, sample: int, treatment: Treatment) -> Answer:
        extra = {"policy_logprobs": True} if treatment.sampled_entropy else {}
        sampling = SamplingParams(self.setting.max_tokens, treatment.temperature, extra=extra)
        question = Question(
            item.messages, seed_of(self.setting.seed, item.id, sample), treatment.policy, treatment.answers
        )
        answer = await self.asker.ask(question, sampling)
        if treatment.sampled_entropy and answer.forkpoint is not None:
            answer = replace(answer, forkpoint=with_sampled_entropy(answer.forkpoint))
        if not treatment.traced or answer.error is not None or answer.response_id is None:
            return answer
        found = {"trace": trace_of(await self.asker.trace(answer.response_id))}
        if treatment.reading is not None:
            found[treatment.reading.name] = await treatment.reading.read(self.asker, item, answer)
        return replace(answer, forkpoint={**(answer.forkpoint or {}), **found})

    async def _check(self, treatment: Treatment) -> None:
        if treatment.key not in self._valid:
            try:
                digest = (await self.asker.validate(treatment.policy))["digest"]
            except ServerRefusesError as error:
                raise CannotError(f"{treatment.name}: {error}") from None
            for unit, answer in self.journal.answers.items():
                stored = (answer.forkpoint or {}).get("digest") or digest
                if unit.arm == treatment.key and stored != digest:
                    raise JournalError(
                        f"{self.journal.path.parent} holds answers under another policy: the digest of "
                        f"{treatment.name!r} was {stored}, is {digest} at {self.asker.url}. Give another folder, or a "
                        "server with the same policies to continue it"
                    )
            self._valid.add(treatment.key)

    def _store(self, unit: Unit, answer: Answer) -> None:
        self.journal.write(unit, answer)
        self.cost.requests += 1
        self.cost.tokens += answer.tokens

    def _read(self, item: Item, answer: Answer) -> ScoredChoices:
        scores: list[float | None] = []
        for choice in answer.choices:
            try:
                scores.append(self.setting.scorer.score(item, choice.text))
            except ScorerError:
                scores.append(None)
        return ScoredChoices(answer, tuple(scores))

    @staticmethod
    async def _concurrently(work: Iterable[Any]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for coroutine in work:
                    group.create_task(coroutine)
        except* (ServerLostError, ServerRefusesError, CannotError, OSError) as errors:
            raise errors.exceptions[0] from None
