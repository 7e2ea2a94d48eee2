"""Doses of placebos: before a run, a placebo that does not have its policy's dose gets the strength at which it has.

A placebo matched place by place can move only what other tokens hold, and leads to other texts. On a few answers, with
seeds of their own, its effect per token is compared with its policy's; if they differ by more than doses may, the
placebo is matched by dose.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from forkpoint_clients.evaluate.asker import Answer, Question, ServerRefusesError
from forkpoint_clients.evaluate.datasets import Item, digest
from forkpoint_clients.evaluate.dose_search import FIRST_STRENGTH_NATS, closest, distance, search
from forkpoint_clients.evaluate.doses import mean_dose
from forkpoint_clients.evaluate.journal import Journal, Unit
from forkpoint_policies.doses import doses_are_equal

from .arms import Arm, placebos
from .run import PreparedRun, seed_of

FOLDER, FITS = "doses", "doses.json"
FORMAT = 1
"""The format of what is stored; increased when it or the method changes."""


@dataclass(frozen=True)
class DoseMatch:
    """A placebo arm and its policy's, with their effects per token on `answers` calibration answers each.

    `as_named` is the dose of the placebo as it was requested. `strength` is that of the placebo that is used, matched
    by dose, in nats, and `dose` what it changed; if its dose is equal as it is, or it cannot be matched by dose,
    `strength` is None and `dose` is `as_named`.
    """

    placebo: str
    policy: str
    answers: int
    policy_dose: float
    as_named: float
    dose: float
    strength: float | None

    def describe(self) -> str:
        """In a sentence or two."""
        doses = f"{self.policy} changes {self.policy_dose:.3g} tokens per token, {self.placebo} {self.as_named:.3g}"
        if self.strength is None:
            equal = doses_are_equal(self.policy_dose, self.as_named)
            return f"{doses}: {'equal doses' if equal else 'not equal, and it cannot be matched by dose'}."
        how = f"it is matched by dose instead, strength {self.strength:g} nats: {self.dose:.3g}"
        return f"{doses}; {how}."


async def match_doses(
    prepared: PreparedRun, folder: Path, answers: int, say: Callable[[str], None]
) -> tuple[PreparedRun, list[DoseMatch]]:
    """The run with each placebo of unequal dose matched by dose, and what was found. `say` gets a line per step.

    Only placebos whose `match` was left open are changed, and only beside their policy on the same server. The
    strengths are stored in `folder`, so that the same run continues with them, and so are the answers that they were
    calibrated on. Raises as Asker.ask does, and OSError.
    """
    by_name = {arm.name: arm for arm in prepared.run.arms}
    found, changed = [], dict(by_name)
    for placebo, policy in placebos(prepared.run.arms).items():
        if not _is_open(by_name[placebo]) or _where(prepared, placebo) != _where(prepared, policy):
            continue
        match = await _Calibration(prepared, by_name[placebo], policy, folder, answers, say).match()
        if match is None:
            continue
        found.append(match)
        say(match.describe())
        if match.strength is not None:
            changed[placebo] = replace(by_name[placebo], policy=by_dose(by_name[placebo], match.strength))
    return await _with_arms(prepared, tuple(changed.values())), found


def by_dose(arm: Arm, strength_nats: float) -> Mapping[str, Any]:
    """The `policy` field of a placebo arm, matched by dose."""
    policy: Mapping[str, Any] = arm.policy if isinstance(arm.policy, Mapping) else {"use": arm.policy}
    return {**policy, "with": {**policy.get("with", {}), "match": "dose", "strength": strength_nats}}


async def _with_arms(prepared: PreparedRun, arms: tuple[Arm, ...]) -> PreparedRun:
    policies, digests = dict(prepared.policies), dict(prepared.digests)
    for before, arm in zip(prepared.run.arms, arms, strict=True):
        if arm.policy is not None and arm is not before:
            policies[arm.name] = arm.policy
            digests[arm.name] = (await prepared.askers[arm.name].validate(arm.policy))["digest"]
    return replace(prepared, run=replace(prepared.run, arms=arms), policies=policies, digests=digests)


def _is_open(arm: Arm) -> bool:
    """Whether the placebo's kind of match was left to its default."""
    return not isinstance(arm.policy, Mapping) or "match" not in arm.policy.get("with", {})


def _where(prepared: PreparedRun, arm: str) -> tuple[str, str]:
    asker = prepared.askers[arm]
    return asker.url, asker.model


@dataclass
class _Calibration:
    """The calibration of one placebo beside its policy's arm."""

    prepared: PreparedRun
    placebo: Arm
    policy: str
    folder: Path
    answers: int
    say: Callable[[str], None]

    async def match(self) -> DoseMatch | None:
        """What is stored, or what a calibration finds; None if the server reports no effects."""
        configuration = self._configuration()
        key = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:16]
        stored = _read(self.folder / FITS)
        if (known := stored.get(key)) is not None:
            return replace(DoseMatch(**known), placebo=self.placebo.name, policy=self.policy)
        items = self.prepared.run.items[: self.answers]
        questions = {"questions": digest(items), "answers": self.answers}
        with Journal(self.folder / FOLDER / key, {**configuration, **questions}) as journal:
            found = await self._calibrate(journal, items)
        if found is not None:
            _write(self.folder / FITS, {**stored, key: asdict(found)})
        return found

    def _configuration(self) -> dict[str, Any]:
        """All that a dose depends on but the questions: a run that grows keeps its placebos."""
        run, (url, model) = self.prepared.run, _where(self.prepared, self.policy)
        return {
            "forkpoint ab doses": FORMAT,
            "policy": self.prepared.digests[self.policy],
            "placebo": self.prepared.digests[self.placebo.name],
            "server": url,
            "model": model,
            "seed": run.seed,
            "sampling": asdict(run.sampling),
        }

    async def _calibrate(self, journal: Journal, items: Sequence[Item]) -> DoseMatch | None:
        self.say(f"comparing the doses of {self.policy} and {self.placebo.name} on {self.answers} answers each")
        policy_dose = await self._dose(journal, items, "policy", self.prepared.policies[self.policy])
        as_named = await self._dose(journal, items, "placebo", self.prepared.policies[self.placebo.name])
        if policy_dose is None or as_named is None:
            return None
        strength, dose = None, as_named
        if policy_dose > 0 and not doses_are_equal(policy_dose, as_named) and await self._can_match_by_dose():
            tried = await self._search(journal, items, policy_dose)
            best = closest(tried, policy_dose)
            if best is not None and distance(tried[best], policy_dose) < distance(as_named, policy_dose):
                strength, dose = best, tried[best]
        return DoseMatch(self.placebo.name, self.policy, self.answers, policy_dose, as_named, dose, strength)

    async def _search(self, journal: Journal, items: Sequence[Item], policy_dose: float) -> dict[float, float]:
        """The strengths that were tried, in nats, and the dose of each."""

        async def measure(strength: float) -> float | None:
            dose = await self._dose(journal, items, f"{strength:g}", by_dose(self.placebo, strength))
            if dose is not None:
                name = f"{self.placebo.name} by dose, strength {strength:g}"
                self.say(f"{name}: {dose:.3g} of {policy_dose:.3g} per token")
            return dose

        return await search(measure, policy_dose)

    async def _can_match_by_dose(self) -> bool:
        try:
            await self.prepared.askers[self.policy].validate(by_dose(self.placebo, FIRST_STRENGTH_NATS))
        except ServerRefusesError:
            return False
        return True

    async def _dose(self, journal: Journal, items: Sequence[Item], name: str, policy: Any) -> float | None:
        """The mean effect per token over the calibration answers; None if the server reports none.

        Samples count down from -1: their seeds are none of the run's.
        """
        run, asker = self.prepared.run, self.prepared.askers[self.policy]
        units = {Unit(items[n % len(items)].id, -1 - n // len(items), name): items[n % len(items)]
                 for n in range(self.answers)}  # fmt: skip

        async def ask(unit: Unit, item: Item) -> Answer:
            if unit not in journal.answers:
                question = Question(item.messages, seed_of(run.seed, unit.question, unit.sample), policy)
                journal.write(unit, await asker.ask(question, run.sampling))
            return journal.answers[unit]

        return mean_dose(await asyncio.gather(*(ask(unit, item) for unit, item in units.items())))


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return stored


def _write(path: Path, fits: Mapping[str, Any]) -> None:
    """Replace the file at once, so that it is never half written."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(fits, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
