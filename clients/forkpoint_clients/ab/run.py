"""Runs arms over a data set: all answer the same questions with the same seeds, interleaved so that drift affects all
alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, get_args

from forkpoint_clients.evaluate.asker import (
    NO_POLICY,
    Answer,
    Asker,
    Question,
    SamplingParams,
    ServerLostError,
    ServerRefusesError,
    without_userinfo,
)
from forkpoint_clients.evaluate.datasets import Item, digest, provenance
from forkpoint_clients.evaluate.defaults import RETRIES
from forkpoint_clients.evaluate.journal import Journal, Unit
from forkpoint_policies.spec import TreeAction

from .arms import Arm, ArmError
from .continuation import FORMAT, KIND, question_digest, reused, stored_unit

TREE_ACTIONS = frozenset(action.__name__.lower() for action in get_args(TreeAction))
"""The actions for which one answer takes several requests of the engine, as the server names them."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that the answers depend on. `url` and `model` are the defaults of the arms."""

    url: str
    model: str
    data: str
    items: Sequence[Item]
    arms: Sequence[Arm]
    samples: int = 1
    seed: int = 0
    sampling: SamplingParams = field(default_factory=SamplingParams)

    def configuration(self, digests: Mapping[str, str | None]) -> dict[str, Any]:
        """The journal's first line, without secrets, with the digest of each arm's policy."""
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
            KIND: FORMAT,
            "data": {
                "source": self.data,
                "questions": len(self.items),
                "digest": digest(self.items),
                **provenance(self.data),
            },
            "arms": arms,
            "samples": self.samples,
            "seed": self.seed,
            "sampling": asdict(self.sampling),
        }

    def units(self) -> list[Unit]:
        """All units in order: sample by sample, with questions shuffled, and arms shuffled within each question."""
        units = []
        for sample in range(self.samples):
            rng = random.Random(f"{self.seed} {sample}")
            for item in rng.sample(self.items, len(self.items)):
                units += [Unit(item.id, sample, arm.name) for arm in rng.sample(self.arms, len(self.arms))]
        return units


def completed_blocks(units: Sequence[Unit], answered: Collection[Unit]) -> list[Unit]:
    """The units of the first blocks that are complete: of one question and sample under all arms.

    Units are in a random order that does not depend on the answers, so these are a fair sample. The answers that have
    ended at any time are not: short ones end first.
    """
    complete: list[Unit] = []
    for _, block in groupby(units, key=lambda unit: (unit.question, unit.sample)):
        members = list(block)
        if not all(unit in answered for unit in members):
            break
        complete += members
    return complete


def seed_of(run_seed: int, question: str, sample: int) -> int:
    """The seed of every arm's `sample`-th answer to a question: 31 bits, independent of the other questions."""
    return int.from_bytes(hashlib.sha256(f"{run_seed} {sample} {question}".encode()).digest()[:4]) >> 1


@dataclass(frozen=True)
class PreparedRun:
    """A run whose servers have been checked, with each arm's asker and `policy` field (None sends no such field).

    The arms in `multi_request_arms`, placebos included, take several requests of the engine per answer. `labels` are
    the names under which the journal stores arms, where these are not their own.
    """

    run: RunSpec
    askers: Mapping[str, Asker]
    policies: Mapping[str, str | Mapping[str, Any] | None]
    digests: Mapping[str, str | None]
    warnings: Sequence[str]
    multi_request_arms: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    def stored(self, journal: Journal) -> dict[Unit, Answer]:
        """The answers to this run's units that the journal holds."""
        return reused(journal, self.run.units(), self.labels)

    @property
    def configuration(self) -> dict[str, Any]:
        return self.run.configuration(self.digests)


async def prepare(
    run: RunSpec,
    stack: AsyncExitStack,
    api_key: str = "none",
    concurrency: int = 16,
    retries: int = RETRIES,
    timeout_seconds: float = 3600,
) -> PreparedRun:
    """Check each server, and validate the policies there. The connections close with `stack`.

    Raises ArmError if an arm with a policy has a server that is not a Forkpoint, ServerRefusesError if a policy is
    invalid, and ServerLostError.
    """
    askers: dict[tuple[str, str, str], Asker] = {}
    forkpoint: dict[str, bool] = {}
    of_arm: dict[str, Asker] = {}
    policies: dict[str, str | Mapping[str, Any] | None] = {}
    digests: dict[str, str | None] = {}
    warnings: list[str] = []
    multi_request_arms = set()
    for arm in run.arms:
        # one connection for arms of the same server, model and key
        where = (arm.url or run.url, arm.model or run.model, arm.api_key or api_key)
        if where not in askers:
            url, model, key = where
            asker = Asker(
                url, model, api_key=key, concurrency=concurrency, retries=retries, timeout_seconds=timeout_seconds
            )
            askers[where] = await stack.enter_async_context(asker)
            await asker.reach()
        asker = of_arm[arm.name] = askers[where]
        # is it a Forkpoint? (once per server)
        if asker.url not in forkpoint:
            forkpoint[asker.url] = await asker.is_forkpoint()
        digests[arm.name] = None
        policies[arm.name] = NO_POLICY if forkpoint[asker.url] else None
        # the policy, validated there
        if arm.policy is not None:
            if not forkpoint[asker.url]:
                raise ArmError(
                    f"the arm {arm.name!r} has a policy, and {asker.url} is not a Forkpoint server: "
                    "it takes only the arm `none`"
                )
            validation = await asker.validate(arm.policy)
            policies[arm.name], digests[arm.name] = arm.policy, validation["digest"]
            warnings += [f"{arm.name}: {warning}" for warning in validation["warnings"]]
            if any(rule["action"] in TREE_ACTIONS for rule in validation["rules"]):
                multi_request_arms.add(arm.name)
    return PreparedRun(run, of_arm, policies, digests, warnings, frozenset(multi_request_arms))


async def ask(
    prepared: PreparedRun, journal: Journal, concurrency: int, answered: Callable[[Unit, Answer], None]
) -> None:
    """Send every unit that the journal does not hold, and call `answered` once an answer is on disk.

    Raises as Asker.ask does.
    """
    run = prepared.run
    messages = {item.id: item.messages for item in run.items}
    digests = {item.id: question_digest(item) for item in run.items}
    stored = prepared.stored(journal)
    remaining = iter([unit for unit in run.units() if unit not in stored])

    async def work(units: Iterator[Unit]) -> None:
        for unit in units:
            question = Question(
                messages[unit.question], seed_of(run.seed, unit.question, unit.sample), prepared.policies[unit.arm]
            )
            answer = await prepared.askers[unit.arm].ask(question, run.sampling)
            journal.write(stored_unit(unit, prepared.labels), answer, digests[unit.question])
            answered(unit, answer)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work(remaining))
    except* (ServerLostError, ServerRefusesError, OSError) as errors:
        raise errors.exceptions[0] from None
