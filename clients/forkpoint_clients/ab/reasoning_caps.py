"""A cap on the reasoning beside each early exit: chosen on half of the questions, and compared on the other half.

An early exit saves tokens by stopping, which a plain cap does too. Only what it has beyond a cap of the same mean
number of tokens is due to knowing when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.doses import PLACEBO
from forkpoint_clients.evaluate.journal import Unit
from forkpoint_clients.evaluate.reasoning_cap import cap_at_mean
from forkpoint_clients.evaluate.stats import Estimate
from forkpoint_policies.catalog import library
from forkpoint_policies.spec import InputError, Policy, parse_policy

from .arms import Arm
from .comparison import ScoredAnswer
from .run import PreparedRun, RunSpec

CAP = "reasoning-cap"


@dataclass(frozen=True)
class CapArm:
    """A cap on the reasoning, of `tokens`, beside the early exit of an arm."""

    exit_arm: str
    tokens: int

    @property
    def name(self) -> str:
        """The cap's own name among the arms."""
        return f"{self.exit_arm}: {CAP} {self.tokens}"

    @property
    def policy(self) -> Mapping[str, object]:
        """The `policy` field of its requests."""
        return {"use": CAP, "with": {"tokens": self.tokens}}


@dataclass(frozen=True)
class CapComparison:
    """An early exit minus its cap, over the pairs of the second half of the questions."""

    arm: str
    cap: int
    pairs: int
    questions: int
    correct: Estimate | None
    tokens: Estimate | None


def early_exits(arms: Sequence[Arm]) -> list[str]:
    """The arms whose policy may end the reasoning before the model would, without placebos and caps."""
    return [arm.name for arm in arms if (policy := _policy(arm)) is not None and _ends_early(policy)]


def halves(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    """The questions on which caps are chosen, and those on which they are compared."""
    middle = len(items) // 2
    return items[:middle], items[middle:]


def choose(answers: Mapping[Unit, Answer], run: RunSpec) -> list[CapArm]:
    """The cap of each early exit, from the answers to the first half of the questions.

    It needs an arm without a policy on the same server, whose answers say how long their reasoning is: an exit without
    one, or without answers, has no cap.
    """
    exits, arms = early_exits(run.arms), {arm.name: arm for arm in run.arms}
    caps = []
    for name in exits:
        where = arms[name].url, arms[name].model
        plain = next((arm.name for arm in run.arms if arm.policy is None and (arm.url, arm.model) == where), None)
        if plain is not None and (tokens := _cap(answers, run.items, name, plain)) is not None:
            caps.append(CapArm(name, tokens))
    return caps


def _cap(answers: Mapping[Unit, Answer], items: Sequence[Item], exit_arm: str, plain: str) -> int | None:
    first = {item.id for item in halves(items)[0]}
    half = [(unit.arm, answer) for unit, answer in answers.items() if unit.question in first and answer.error is None]
    reasoning = [
        answer.reasoning_tokens for arm, answer in half if arm == plain and answer.reasoning_tokens is not None
    ]
    rests = [
        answer.tokens - answer.reasoning_tokens
        for arm, answer in half
        if arm == plain and answer.reasoning_tokens is not None and answer.finish_reason == "stop"
    ]
    spent = [answer.tokens for arm, answer in half if arm == exit_arm]
    if not reasoning or not spent:
        return None
    return cap_at_mean(reasoning, float(np.mean(rests or [0])), float(np.mean(spent)))


async def prepare_caps(prepared: PreparedRun, caps: Sequence[CapArm]) -> PreparedRun:
    """The run of the caps on the second half of the questions. Raises as Asker.validate does."""
    by_name = {arm.name: arm for arm in prepared.run.arms}
    arms = tuple(replace(by_name[cap.exit_arm], name=cap.name, policy=cap.policy) for cap in caps)
    askers = {cap.name: prepared.askers[cap.exit_arm] for cap in caps}
    digests = {cap.name: (await askers[cap.name].validate(cap.policy))["digest"] for cap in caps}
    spec = replace(prepared.run, arms=arms, items=halves(prepared.run.items)[1])
    labels = {cap.name: replace(cap, exit_arm=prepared.labels.get(cap.exit_arm, cap.exit_arm)).name for cap in caps}
    return PreparedRun(spec, askers, {cap.name: cap.policy for cap in caps}, digests, (), labels=labels)


def compare_with_caps(answers: Mapping[Unit, ScoredAnswer], caps: Sequence[CapArm]) -> list[CapComparison]:
    """Each early exit against its cap, paired by question and seed."""
    return [_compare(answers, cap) for cap in caps]


def _compare(answers: Mapping[Unit, ScoredAnswer], cap: CapArm) -> CapComparison:
    pairs = [
        (unit.question, answers[replace(unit, arm=cap.exit_arm)], capped)
        for unit, capped in answers.items()
        if unit.arm == cap.name and replace(unit, arm=cap.exit_arm) in answers
    ]
    done = [pair for pair in pairs if all(scored.answer.error is None for scored in pair[1:])]
    scores = [
        (question, own.score - other.score)
        for question, own, other in done
        if own.score is not None and other.score is not None
    ]
    tokens = [(question, float(own.answer.tokens - other.answer.tokens)) for question, own, other in done]
    return CapComparison(
        cap.exit_arm,
        cap.tokens,
        len(scores),
        len({question for question, _ in scores}),
        _mean(scores, 1.0),
        _mean(tokens, None),
    )


def _mean(values: Sequence[tuple[str, float]], bound: float | None) -> Estimate | None:
    if not values:
        return None
    return stats.mean([value for _, value in values], [question for question, _ in values], bound=bound)


def _policy(arm: Arm) -> Policy | None:
    """The arm's policy, if it is in the library or written out; None for another name, a placebo, or a cap."""
    if isinstance(arm.policy, Mapping) and "use" not in arm.policy:
        return parse_policy(arm.policy)
    name = arm.library_name
    if name is None or name == CAP or name.endswith(PLACEBO):
        return None
    with_ = arm.policy.get("with", {}) if isinstance(arm.policy, Mapping) else {}
    try:
        return next(named for named in library() if named.policy.name == name).use(with_)
    except InputError:
        return None  # the server says what is wrong with it


def _ends_early(policy: Policy) -> bool:
    rules = [rule.do for rule in policy.rules]
    return not policy.shadow and any(
        do.probe is not None or (do.end_reasoning is not None and do.end_reasoning.instead_of is None) for do in rules
    )
