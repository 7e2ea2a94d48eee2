"""An experiment as this server runs it, with its arms' policies compiled. Enrolling a request needs no database."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from starlette.datastructures import Headers

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.placebo import PLACEBO
from forkpoint_policies.spec import InputError, Policy, parse_policy
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.policies.eligibility import can_branch, incompatible_option, tree_action_of
from forkpoint_server.store.definitions import StoredArm
from forkpoint_server.store.experiments import StoredExperiment

from .assignment import Space, find, hash_of, inside, point_of, salt_of
from .lifecycle import space_of
from .shadow_rules import TriggerDetector, combine_in_shadow, detect_combined, detect_own
from .units import unit_of

CompileOne = Callable[[LabeledPolicy], Awaitable[CompiledPolicy]]


@dataclass(frozen=True)
class LiveArm:
    """An arm. Each of its requests runs one of `detectors`, chosen at random."""

    number: int
    name: str
    labeled: LabeledPolicy | None  # None: no policy
    paused: bool
    detectors: tuple[TriggerDetector, ...]


@dataclass(frozen=True)
class Enrolment:
    """A request's arm in an experiment. `unit` is its salted hash; `stratum`: the epoch that gave it to the arm."""

    live: LiveExperiment
    arm: LiveArm
    detector: TriggerDetector
    unit: int
    stratum: int

    @property
    def label(self) -> str:
        return f"{self.live.stored.name}/{self.arm.name}"

    @property
    def has_tree_arm(self) -> bool:
        """Whether some running arm branches into a tree, which not every request can do."""
        return bool(self.live.tree_actions)


class NotEnrolled(Enum):
    """Why a request has no arm in an experiment."""

    OUTSIDE = "outside"  # not part of the experiment: the next one may enrol it
    WITHOUT_UNIT = "unit"  # likewise: it does not name the unit
    INAPPLICABLE = "policy"  # likewise: some running arm's policy cannot apply to it
    PAUSED = "paused"  # its unit belongs to a paused arm: no experiment may enrol it


@dataclass(frozen=True)
class LiveExperiment:
    """An experiment with what its requests need. `untriggered`: arm -> why it has no triggered analysis."""

    stored: StoredExperiment
    arms: tuple[LiveArm, ...]
    space: Space
    untriggered: Mapping[str, str]
    tree_actions: tuple[Any, ...] = ()  # of the arms that run
    by_name: Mapping[str, LiveArm] = field(default_factory=dict)

    def changed_to(self, stored: StoredExperiment) -> LiveExperiment:
        """The experiment after a change of statuses or weights. Its policies never change: nothing is compiled."""
        statuses = stored.now.arms
        arms = tuple(replace(arm, paused=statuses[arm.name].status == "paused") for arm in self.arms)
        return _with_arms(stored, arms, self.untriggered)

    def enrol(self, path: str, body: Mapping[str, Any], headers: Headers, max_branches: int) -> Enrolment | NotEnrolled:
        """A request's arm in this experiment. Raises InputError for a unit that cannot be read."""
        definition = self.stored.definition
        unit = unit_of(definition.unit, definition.slice_seconds, body, headers)
        if unit is None:
            return NotEnrolled.WITHOUT_UNIT
        if not inside(definition.traffic, definition.layer or "", unit):
            return NotEnrolled.OUTSIDE
        if incompatible_option(body) or not all(
            can_branch(path, body, action, max_branches) for action in self.tree_actions
        ):
            return NotEnrolled.INAPPLICABLE
        hashed = hash_of(salt_of(self.stored.name, definition.salt), unit)
        owner = find(self.space, point_of(hashed))
        if owner is None:
            return NotEnrolled.OUTSIDE
        name, interval = owner
        arm = self.by_name[name]
        if arm.paused:
            return NotEnrolled.PAUSED
        return Enrolment(self, arm, secrets.choice(arm.detectors), hashed, interval.since)


def policy_of(arm: StoredArm) -> LabeledPolicy | None:
    """The policy of a stored arm."""
    return None if arm.definition is None else LabeledPolicy(parse_policy(arm.definition), arm.label or "")


def named_policies(stored: StoredExperiment) -> set[str]:
    """The policies that the author of an experiment referred to by name."""
    written = [arm.policy for arm in stored.definition.arms]
    names = {policy if isinstance(policy, str) else policy.get("use", "") for policy in written if policy is not None}
    return names | {name.removesuffix(PLACEBO) for name in names}


def named_artefacts(stored: StoredExperiment) -> set[str]:
    """The vectors and readouts that the policies of an experiment's arms depend on."""
    labeled = (policy_of(arm) for arm in stored.definition.arms)
    return {name for one in labeled if one is not None for name in one.policy.artefacts}


async def make_live(stored: StoredExperiment, compile_one: CompileOne) -> LiveExperiment:
    """Compile an experiment's policies. Raises InputError where the served model cannot express one."""
    definition = stored.definition
    labeled = [policy_of(arm) for arm in definition.arms]
    policies = {number: one.policy for number, one in enumerate(labeled) if one is not None}
    paused = [stored.now.arms[arm.name].status == "paused" for arm in definition.arms]
    control = next(number for number, arm in enumerate(definition.arms) if arm.name == definition.control)

    # what the requests of each arm evaluate
    compiled = [None if one is None else await compile_one(one) for one in labeled]
    shadows = await _shadow_detectors(policies, compile_one)
    arms = []
    for number, arm in enumerate(definition.arms):
        own, detectors = compiled[number], shadows
        if own is not None:
            detectors = (_own_detector(number, policies, own, number == control),)
        arms.append(LiveArm(number, arm.name, labeled[number], paused[number], detectors))

    # arms that the control's requests say nothing about
    untriggered = {
        arms[number].name: "the control arm has a policy, so its requests do not show where this one would have acted"
        for number in policies
        if number != control and not any(number in detector.rules for detector in arms[control].detectors)
    }

    return _with_arms(stored, tuple(arms), untriggered)


def _with_arms(stored: StoredExperiment, arms: tuple[LiveArm, ...], untriggered: Mapping[str, str]) -> LiveExperiment:
    actions = [tree_action_of(arm.labeled.policy) for arm in arms if arm.labeled is not None and not arm.paused]
    return LiveExperiment(
        stored,
        arms,
        space_of(stored),
        untriggered,
        tuple(action for action in actions if action is not None),
        {arm.name: arm for arm in arms},
    )


def _own_detector(
    number: int, policies: Mapping[int, Policy], compiled: CompiledPolicy, is_control: bool
) -> TriggerDetector:
    """The detector of an arm with a policy. A control in shadow also observes the arms that have the same rules."""
    own = policies[number]
    same = {arm: policy for arm, policy in policies.items() if policy.rules == own.rules}
    return detect_combined(same, compiled) if is_control and own.shadow else detect_own(number, own, compiled)


async def _shadow_detectors(policies: Mapping[int, Policy], compile_one: CompileOne) -> tuple[TriggerDetector, ...]:
    """The detectors of an arm without a policy: all policies at once, or one each where they would interfere."""
    combined = combine_in_shadow(policies)
    if combined is not None:
        try:
            return (detect_combined(policies, await compile_one(LabeledPolicy(combined))),)
        except InputError:
            pass  # some placebos of the same tokens cannot be in one program
    detectors = []
    for arm, policy in policies.items():
        detectors.append(detect_own(arm, policy, await compile_one(LabeledPolicy(policy.in_shadow()))))
    return tuple(detectors)
