"""Arms over a data set: every arm answers the same questions with the same seeds, in turns, so that drift hits all alike."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from forkpoint_clients.evaluate.asker import (
    NO_POLICY,
    RETRIES,
    Answer,
    Asker,
    Question,
    SamplingParams,
    ServerLostError,
    ServerRefusesError,
    without_userinfo,
)
from forkpoint_clients.evaluate.datasets import Item, digest
from forkpoint_clients.evaluate.journal import Journal, Unit

from .arms import Arm, ArmError

GROWING = frozenset({"branch", "probe", "sample", "resume"})
"""Actions for which one answer takes several requests of the engine."""

FORMAT = 1
"""Of the journal; raised when its lines change."""


@dataclass(frozen=True)
class RunSpec:
    """What is asked: all that the answers depend on. `url` and `model` are those of arms that name none."""

    url: str
    model: str
    data: str
    items: Sequence[Item]
    arms: Sequence[Arm]
    samples: int = 1
    seed: int = 0
    sampling: SamplingParams = field(default_factory=SamplingParams)

    def configuration(self, digests: Mapping[str, str | None]) -> dict[str, Any]:
        """As the journal's first line has it, with the digest of each arm's policy, as a changed one is another. No secrets."""
        arms = [
            {
                "name": arm.name,
                "policy": arm.policy,
                "digest": digests[arm.name],
                "server": without_userinfo(arm.url or self.url),
                "model": arm.model or self.model,
            }
            for arm in self.arms
        ]
        return {
            "forkpoint ab": FORMAT,
            "data": {"source": self.data, "questions": len(self.items), "digest": digest(self.items)},
            "arms": arms,
            "samples": self.samples,
            "seed": self.seed,
            "sampling": asdict(self.sampling),
        }

    def units(self) -> list[Unit]:
        """Everything to ask, in order: sample by sample, the questions shuffled, and the arms shuffled within each question."""
        found = []
        for sample in range(self.samples):
            order = random.Random(f"{self.seed} {sample}")
            for item in order.sample(self.items, len(self.items)):
                found += [Unit(item.id, sample, arm.name) for arm in order.sample(self.arms, len(self.arms))]
        return found


def seed_of(run_seed: int, question: str, sample: int) -> int:
    """The seed with which all arms answer a question for the `sample`-th time: 31 bits, the same whatever else is asked."""
    return int.from_bytes(hashlib.sha256(f"{run_seed} {sample} {question}".encode()).digest()[:4]) >> 1


@dataclass(frozen=True)
class PreparedRun:
    """A run whose servers have been looked at: whom each arm asks, and for which policy; None sends nothing of the kind.

    The arms of `several` take several requests of the engine for an answer, their placebos too.
    """

    run: RunSpec
    askers: Mapping[str, Asker]
    policies: Mapping[str, str | Mapping[str, Any] | None]
    digests: Mapping[str, str | None]
    warnings: Sequence[str]
    several: frozenset[str] = frozenset()

    @property
    def configuration(self) -> dict[str, Any]:
        return self.run.configuration(self.digests)


async def prepare(
    run: RunSpec,
    stack: AsyncExitStack,
    api_key: str = "none",
    at_once: int = 16,
    retries: int = RETRIES,
    timeout_seconds: float = 3600,
) -> PreparedRun:
    """Ask each server what it is and what it makes of the policies. Its connections end with the stack.

    Raises ArmError where a policy is asked of a server that is no Forkpoint, ServerRefusesError where it is wrong, ServerLostError.
    """
    askers: dict[tuple[str, str, str], Asker] = {}
    forkpoint: dict[str, bool] = {}
    of_arm: dict[str, Asker] = {}
    policies: dict[str, str | Mapping[str, Any] | None] = {}
    digests: dict[str, str | None] = {}
    warnings: list[str] = []
    several = set()
    for arm in run.arms:
        where = (arm.url or run.url, arm.model or run.model, arm.api_key or api_key)
        if where not in askers:
            url, model, key = where
            asker = Asker(url, model, api_key=key, at_once=at_once, retries=retries, timeout_seconds=timeout_seconds)
            askers[where] = await stack.enter_async_context(asker)
        asker = of_arm[arm.name] = askers[where]
        if asker.url not in forkpoint:
            forkpoint[asker.url] = await asker.is_forkpoint()
        digests[arm.name] = None
        policies[arm.name] = NO_POLICY if forkpoint[asker.url] else None
        if arm.policy is not None:
            if not forkpoint[asker.url]:
                raise ArmError(
                    f"the arm {arm.name!r} has a policy, and {asker.url} is no Forkpoint: it takes only the arm `none`"
                )
            told = await asker.validate(arm.policy)
            policies[arm.name], digests[arm.name] = arm.policy, told["digest"]
            warnings += [f"{arm.name}: {warning}" for warning in told["warnings"]]
            if any(rule["action"] in GROWING for rule in told["rules"]):
                several.add(arm.name)
    return PreparedRun(run, of_arm, policies, digests, warnings, frozenset(several))


async def ask(prepared: PreparedRun, journal: Journal, at_once: int, answered: Callable[[Unit, Answer], None]) -> None:
    """Ask all that the journal does not hold, and tell of each answer once it is on disk. Raises as Asker.ask does."""
    run = prepared.run
    messages = {item.id: item.messages for item in run.items}
    left = iter([unit for unit in run.units() if unit not in journal.answers])

    async def work(units: Iterator[Unit]) -> None:
        for unit in units:
            question = Question(
                messages[unit.question], seed_of(run.seed, unit.question, unit.sample), prepared.policies[unit.arm]
            )
            answer = await prepared.askers[unit.arm].ask(question, run.sampling)
            journal.write(unit, answer)
            answered(unit, answer)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work(left))
    except* (ServerLostError, ServerRefusesError, OSError) as errors:
        raise errors.exceptions[0] from None
