"""From a posted definition to a stored experiment, and from one epoch to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from forkpoint_policies.spec import InputError, unknown_name
from forkpoint_server.errors import ApiError
from forkpoint_server.store.definitions import EpochArm, StoredArm, StoredDefinition
from forkpoint_server.store.experiments import StoredExperiment

from .assignment import Space, lay_out, raised
from .definition import Change, Definition, ResolvedArm


def definition_to_store(definition: Definition, arms: Sequence[ResolvedArm]) -> StoredDefinition:
    """What never changes about an experiment."""
    unchanged = definition.model_dump(mode="json", exclude={"name", "arms", "status", "control"})
    control = definition.control or definition.arms[0].name
    return StoredDefinition(**unchanged, control=control, arms=tuple(_stored_arm(arm) for arm in arms))


def _stored_arm(arm: ResolvedArm) -> StoredArm:
    policy = arm.labeled.policy if arm.labeled is not None else None
    return StoredArm(
        name=arm.definition.name,
        policy=arm.definition.policy,
        shadow=policy is not None and policy.shadow,
        digest=None if policy is None else policy.digest,
        label=None if arm.labeled is None else arm.labeled.label,
        definition=None if policy is None else policy.model_dump(mode="json", exclude_unset=True),
    )


def first_epoch(definition: Definition) -> dict[str, EpochArm]:
    """The arms of the first epoch. Raises InputError for weights that sum to more than 1."""
    try:
        space = lay_out({arm.name: arm.weight for arm in definition.arms})
    except ValueError as error:
        raise InputError("arms", str(error)) from None
    return _epoch(space, {arm.name: arm.status for arm in definition.arms})


def next_epoch(stored: StoredExperiment, change: Change) -> tuple[str, Mapping[str, EpochArm] | None]:
    """The status after a change, and the arms of a new epoch, or None when weights and statuses of arms stay the same.

    Raises InputError or ApiError.
    """
    if stored.status == "stopped":
        raise ApiError(
            HTTPStatus.CONFLICT, f"{stored.name!r} is stopped, which is for good; define another experiment", "status"
        )
    statuses = {name: arm.status for name, arm in stored.now.arms.items()}
    space = space_of(stored)
    for number, arm in enumerate(change.arms):
        if arm.name not in statuses:
            raise InputError(f"arms[{number}].name", unknown_name("arm", arm.name, statuses))
        if arm.status is not None:
            statuses[arm.name] = arm.status
        if arm.weight is not None:
            try:
                space = raised(space, {arm.name: arm.weight}, stored.now.number + 1)
            except ValueError as error:
                raise InputError(f"arms[{number}].weight", str(error)) from None
    arms = _epoch(space, statuses)
    return change.status or stored.status, None if arms == stored.now.arms else arms


def space_of(stored: StoredExperiment) -> Space:
    """What each arm owns in the current epoch."""
    return {name: arm.intervals for name, arm in stored.now.arms.items()}


def _epoch(space: Space, statuses: Mapping[str, str]) -> dict[str, EpochArm]:
    return {name: EpochArm(status=statuses[name], intervals=intervals) for name, intervals in space.items()}
