"""An experiment as this server runs it: its arms' policies compiled, its hash space at hand. No request asks the database."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.placebo import PLACEBO
from forkpoint_policies.spec import InputError, Policy, parse_policy
from forkpoint_server import metrics
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.policies.eligibility import can_branch, incompatible_option, tree_action_of
from forkpoint_server.store.experiments import Stored

from .assignment import Interval, Space, find, hash_of, inside, point_of, salt_of, unit_of
from .shadow_rules import Watch, together, watch_own, watch_together

CompileOne = Callable[[LabeledPolicy], Awaitable[CompiledPolicy]]


@dataclass(frozen=True)
class LiveArm:
    """An arm; a request of it runs one of `watches`, by chance."""

    number: int
    name: str
    labeled: LabeledPolicy | None  # None: no policy
    paused: bool
    watches: tuple[Watch, ...]


@dataclass(frozen=True)
class Enrolment:
    """A request's place in an experiment. `unit` is its salted hash; `grows`: an arm that runs grows trees, which not all can."""

    live: Live
    arm: LiveArm
    watch: Watch
    unit: int
    stratum: int

    @property
    def label(self) -> str:
        return f"{self.live.stored.name}/{self.arm.name}"

    @property
    def grows(self) -> bool:
        return bool(self.live.tree_actions)


@dataclass(frozen=True)
class Live:
    """An experiment with what its requests need. `untriggered` says of which arms there is no triggered analysis, and why."""

    stored: Stored
    arms: tuple[LiveArm, ...]
    space: Space
    untriggered: Mapping[str, str]
    tree_actions: tuple[Any, ...] = ()
    by_name: Mapping[str, LiveArm] = field(default_factory=dict)

    def enrol(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str], most_branches: int
    ) -> Enrolment | bool:
        """A request's place in this experiment; False when it has none, True when its arm is paused: it then gets nothing."""
        definition = self.stored.definition
        unit = unit_of(definition["unit"], definition["slice_seconds"], body, headers)
        if unit is None:
            metrics.INELIGIBLE.labels(self.stored.name, "unit").inc()
            return False
        if not inside(definition["traffic"], definition["layer"] or "", unit):
            return False
        if incompatible_option(body) or not all(
            can_branch(path, body, action, most_branches) for action in self.tree_actions
        ):
            metrics.INELIGIBLE.labels(self.stored.name, "policy").inc()
            return False
        hashed = hash_of(salt_of(self.stored.name, definition["salt"]), unit)
        found = find(self.space, point_of(hashed))
        if found is None:
            return False
        arm = self.by_name[found[0]]
        if arm.paused:
            return True
        return Enrolment(self, arm, secrets.choice(arm.watches), hashed, found[1].since)


def space_of(stored: Stored) -> Space:
    """What each arm owns now."""
    return {name: tuple(Interval(*interval) for interval in arm["intervals"]) for name, arm in stored.now.arms.items()}


def policy_of(arm: Mapping[str, Any]) -> LabeledPolicy | None:
    """The policy that an arm of a stored definition keeps."""
    return None if arm["definition"] is None else LabeledPolicy(parse_policy(arm["definition"]), arm["label"])


def named_by(stored: Stored) -> set[str]:
    """The policies that an experiment's arms were given by name."""
    given = [arm["policy"] for arm in stored.definition["arms"]]
    names = {one if isinstance(one, str) else one.get("use", "") for one in given if one is not None}
    return names | {name.removesuffix(PLACEBO) for name in names}


async def make_live(stored: Stored, compile_one: CompileOne) -> Live:
    """Compile an experiment's policies. Raises InputError where the served model cannot express one."""
    definition = stored.definition
    labeled = [policy_of(arm) for arm in definition["arms"]]
    compiled = [None if one is None else await compile_one(one) for one in labeled]
    policies = {number: one.policy for number, one in enumerate(labeled) if one is not None}
    paused = [stored.now.arms[arm["name"]]["status"] == "paused" for arm in definition["arms"]]
    shadows = await _shadows(policies, compile_one)
    control = next(number for number, arm in enumerate(definition["arms"]) if arm["name"] == definition["control"])
    arms, untriggered = [], dict[str, str]()
    for number, arm in enumerate(definition["arms"]):
        own, watches = compiled[number], shadows
        if own is not None:
            watches = (_watch(number, policies, own, number == control),)
        arms.append(LiveArm(number, arm["name"], labeled[number], paused[number], watches))
    for number in policies:
        if number != control and not any(number in watch.rules for watch in arms[control].watches):
            untriggered[arms[number].name] = (
                "the control arm has a policy, so its requests do not show where this one would have acted"
            )
    actions = [tree_action_of(policy) for number, policy in policies.items() if not paused[number]]
    return Live(
        stored, tuple(arms), space_of(stored), untriggered, tuple(one for one in actions if one is not None),
        {arm.name: arm for arm in arms},
    )  # fmt: skip


def _watch(number: int, policies: Mapping[int, Policy], compiled: CompiledPolicy, is_control: bool) -> Watch:
    """An arm's own policy; in a control arm in shadow also those that have the same rules."""
    own = policies[number]
    same = {arm: policy for arm, policy in policies.items() if policy.rules == own.rules}
    return watch_together(same, compiled) if is_control and own.shadow else watch_own(number, own, compiled)


async def _shadows(policies: Mapping[int, Policy], compile_one: CompileOne) -> tuple[Watch, ...]:
    """What a request without a policy evaluates: all policies together, or, where they get in each other's way, any one of them."""
    whole = together(policies)
    if whole is not None:
        try:
            return (watch_together(policies, await compile_one(LabeledPolicy(whole))),)
        except InputError:
            pass  # what stands in for the same tokens cannot be in one program
    return tuple(
        [
            watch_own(arm, policy, await compile_one(LabeledPolicy(policy.in_shadow())))
            for arm, policy in policies.items()
        ]
    )
