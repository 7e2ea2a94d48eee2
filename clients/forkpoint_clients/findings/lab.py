"""What findings ask of a server, each thing once: answers, traces and verified positions are shared, and kept on disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from forkpoint_clients.evaluate.journal import Journal, JournalError, Unit
from forkpoint_clients.evaluate.scorers import Scorer, ScorerError

from .reading import EntropyTrace, ScoredChoices, trace_of

Answers = Mapping[tuple[str, int], ScoredChoices]
"""(question, sample) -> what came back."""


class CannotError(Exception):
    """The server cannot do what a finding needs; the message says what."""


@dataclass(frozen=True)
class Treatment:
    """What is asked under one name; what is asked alike under two names is asked once. `answers` are the choices of a request."""

    name: str
    policy: str | Mapping[str, Any] = "observe"
    temperature: float = 1.0
    answers: int = 1
    traced: bool = False

    @property
    def key(self) -> str:
        """The same for all arms that ask for the same."""
        asked = [self.policy, self.temperature, self.answers, self.traced]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


BASELINE = Treatment("no policy", "observe", traced=True)
"""`observe` changes nothing, and its traces have the entropies: every finding begins from these answers."""


@dataclass(frozen=True)
class LabSetting:
    """The questions, `short` ones where each takes many continuations; how many answers each gets; and how two are compared."""

    items: Sequence[Item]
    short: Sequence[Item]
    scorer: Scorer
    samples: int = 1
    seed: int = 0
    max_tokens: int | None = None
    extract: str = "last_line"
    leaves: int = 4
    continuations: int = 12
    verified_every: int = 5
    fewest_verified: int = 10

    @property
    def verified(self) -> Sequence[Item]:
        """The questions in whose texts positions are verified: each takes dozens of continuations."""
        return self.short[: max(self.fewest_verified, len(self.items) // self.verified_every)]


@dataclass
class Cost:
    """What was asked of the server in this run, beside what was on disk already."""

    requests: int = 0
    tokens: int = 0


@dataclass
class Lab:
    """One model of one server, for all findings. `told` hears of what begins and of each thing that is there."""

    setting: LabSetting
    asker: Asker
    journal: Journal
    at_once: int = 24
    told: Callable[[str, int, int], None] = lambda *_: None
    cost: Cost = field(default_factory=Cost)
    _valid: set[str] = field(default_factory=set)

    async def ask(
        self, arms: Sequence[Treatment], items: Sequence[Item] | None = None, samples: int | None = None
    ) -> dict[str, Answers]:
        """Answers by the arm's name, all arms with the same questions and seeds, in turns.

        Raises CannotError where the server does not take a policy, JournalError where what is kept was answered under another, and
        as Asker.ask does.
        """
        items, samples = self.setting.items if items is None else items, samples or self.setting.samples
        for arm in arms:
            await self._check(arm)
        by_id = {item.id: item for item in items}
        wanted = {Unit(item.id, sample, arm.key): arm for arm in arms for item in items for sample in range(samples)}
        order = sorted((unit for unit in wanted if unit not in self.journal.answers), key=str)
        random.Random(self.setting.seed).shuffle(order)
        order.sort(
            key=lambda unit: (unit.sample, unit.question)
        )  # the arms of a question next to each other, in random order
        names = ", ".join(arm.name for arm in arms)
        left, done = iter(order), 0

        async def work(units: Iterator[Unit]) -> None:
            nonlocal done
            for unit in units:
                self._keep(unit, await self._answer(by_id[unit.question], unit.sample, wanted[unit]))
                done += 1
                self.told(names, done, len(order))

        await self._side_by_side(work(left) for _ in range(min(self.at_once, len(order))))
        return {
            arm.name: {
                (item.id, sample): self._read(item, self.journal.answers[Unit(item.id, sample, arm.key)])
                for item in items
                for sample in range(samples)
            }
            for arm in arms
        }

    async def verify(
        self, positions: Mapping[str, Sequence[int]], texts: Mapping[str, EntropyTrace]
    ) -> dict[str, list[dict[str, Any]]]:
        """What `POST /v1/forks` says of these positions of each question's text: question -> one object a position.

        Raises CannotError where the server has no such route or refuses a text, and ServerLostError.
        """
        items = {item.id: item for item in self.setting.short}
        units = {
            question: Unit(question, 0, f"verify {self.setting.continuations} {list(positions[question])}")
            for question in positions
        }
        left = iter([question for question, unit in units.items() if unit not in self.journal.answers])
        done = 0

        async def work(questions: Iterator[str]) -> None:
            nonlocal done
            for question in questions:
                self._keep(units[question], await self._verified(items[question], texts[question], positions[question]))
                done += 1
                self.told("verifying positions", done, len(positions))

        await self._side_by_side(work(left) for _ in range(3))
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
            "extract": self.setting.extract,
            "seed": seed_of(self.setting.seed, item.id, 0),
        }
        try:
            found = await self.asker.client.post("/forks", body=body, cast_to=dict[str, Any])
        except openai.APIError as error:
            try:
                refused = self.asker.reason(error)
            except ServerRefusesError as refusal:
                refused = str(refusal)
            raise CannotError(f"POST /v1/forks: {refused}") from None
        return Answer(tokens=found["cost"]["tokens"], forkpoint=found["verification"])

    async def _answer(self, item: Item, sample: int, arm: Treatment) -> Answer:
        sampling = SamplingParams(self.setting.max_tokens, arm.temperature)
        question = Question(item.messages, seed_of(self.setting.seed, item.id, sample), arm.policy, arm.answers)
        answer = await self.asker.ask(question, sampling)
        if not arm.traced or answer.error is not None or answer.response_id is None:
            return answer
        trace = trace_of(await self.asker.trace(answer.response_id))
        return replace(answer, forkpoint={**(answer.forkpoint or {}), "trace": trace})

    async def _check(self, arm: Treatment) -> None:
        if arm.key not in self._valid:
            try:
                digest = (await self.asker.validate(arm.policy))["digest"]
            except ServerRefusesError as error:
                raise CannotError(f"{arm.name}: {error}") from None
            for unit, answer in self.journal.answers.items():
                was = (answer.forkpoint or {}).get("digest") or digest
                if unit.arm == arm.key and was != digest:
                    raise JournalError(
                        f"{self.journal.path.parent} holds answers under another policy: the digest of {arm.name!r} was {was}, is "
                        f"{digest} at {self.asker.url}. Give another folder, or a server with the same policies to go on with it"
                    )
            self._valid.add(arm.key)

    def _keep(self, unit: Unit, answer: Answer) -> None:
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
    async def _side_by_side(work: Iterable[Any]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for one in work:
                    group.create_task(one)
        except* (ServerLostError, ServerRefusesError, CannotError, OSError) as errors:
            raise errors.exceptions[0] from None
