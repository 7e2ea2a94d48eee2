"""Stored experiments and policies. They change one at a time, across all servers that share the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from .artefacts import artefact_digests
from .changes import changing, number_of_changes
from .database import reading
from .definitions import EpochArm, StoredDefinition, epoch_to_dict
from .tables import EPOCHS, EXPERIMENTS, POLICIES


@dataclass(frozen=True)
class Epoch:
    """A period in which neither weights nor statuses of arms changed. `started_at` is in seconds since 1970."""

    number: int
    arms: Mapping[str, EpochArm]  # by name
    started_at: float


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment. `created` is in seconds since 1970."""

    id: int
    name: str
    definition: StoredDefinition
    status: str
    created: float
    epochs: tuple[Epoch, ...]

    @property
    def now(self) -> Epoch:
        """The current epoch."""
        return self.epochs[-1]


@dataclass(frozen=True)
class Definitions:
    """All experiments, oldest first, and all policies, as they were after `number` changes; of each vector and readout
    the digest."""

    number: int
    experiments: tuple[StoredExperiment, ...]
    policies: Mapping[str, Any]
    artefacts: Mapping[str, str] = field(default_factory=dict)


def read_number(database: Engine) -> int:
    """The number of changes so far. While it stays the same, nothing has to be read again."""
    with database.connect() as connection:
        return number_of_changes(connection)


def read_definitions(database: Engine) -> Definitions:
    """Everything, as of one moment."""
    with reading(database) as connection:
        return Definitions(
            number_of_changes(connection), _experiments(connection), _policies(connection), artefact_digests(connection)
        )


def add_experiment(
    database: Engine,
    name: str,
    definition: StoredDefinition,
    status: str,
    arms: Mapping[str, EpochArm],
    max_experiments: int,
) -> StoredExperiment:
    """Store a new experiment. Raises KeyError when its name is taken, OverflowError at `max_experiments`."""
    now = time.time()
    with changing(database) as connection:
        existing = _experiments(connection)
        if any(experiment.name == name for experiment in existing):
            raise KeyError(name)
        if len(existing) >= max_experiments:
            raise OverflowError(max_experiments)
        row = {"name": name, "definition": definition.to_dict(), "status": status, "created": now}
        number = connection.execute(insert(EXPERIMENTS).values(row).returning(EXPERIMENTS.c.id)).scalar_one()
        _add_epoch(connection, number, Epoch(0, arms, now))
        return StoredExperiment(number, name, definition, status, now, (Epoch(0, arms, now),))


def change_experiment(
    database: Engine, name: str, change: Callable[[StoredExperiment], tuple[str, Mapping[str, EpochArm] | None]]
) -> StoredExperiment:
    """Change an experiment. Raises KeyError when there is none, and what `change` raises; then nothing changes.

    `change` returns the new status and the arms of a new epoch, or None to stay in the current one.
    """
    with changing(database) as connection:
        stored = _one(connection, name)
        status, arms = change(stored)
        connection.execute(update(EXPERIMENTS).where(EXPERIMENTS.c.id == stored.id).values(status=status))
        if arms is not None:
            _add_epoch(connection, stored.id, Epoch(stored.now.number + 1, arms, time.time()))
        return _one(connection, name)


def remove_experiment(database: Engine, name: str, check: Callable[[StoredExperiment], None]) -> None:
    """Delete an experiment with everything recorded for it, unless `check` raises. Raises KeyError if unknown."""
    with changing(database, is_slow=True) as connection:  # it may have millions of requests
        stored = _one(connection, name)
        check(stored)
        connection.execute(delete(EXPERIMENTS).where(EXPERIMENTS.c.id == stored.id))


def put_policy(database: Engine, name: str, policy: Mapping[str, Any]) -> bool:
    """Store a policy, replacing an earlier one of that name. Returns whether the name is new."""
    row = {"policy": dict(policy), "changed": time.time()}
    with changing(database) as connection:
        replaced = connection.execute(update(POLICIES).where(POLICIES.c.name == name).values(row)).rowcount
        if not replaced:
            connection.execute(insert(POLICIES).values(name=name, **row))
        return not replaced


def remove_policy(database: Engine, name: str, check: Callable[[tuple[StoredExperiment, ...]], None]) -> None:
    """Delete a stored policy, unless `check` raises on the experiments. Raises KeyError when there is none."""
    with changing(database) as connection:
        if name not in _policies(connection):
            raise KeyError(name)
        check(_experiments(connection))
        connection.execute(delete(POLICIES).where(POLICIES.c.name == name))


def _policies(connection: Connection) -> dict[str, Any]:
    return {
        row.name: row.policy
        for row in connection.execute(select(POLICIES.c.name, POLICIES.c.policy).order_by(POLICIES.c.name))
    }


def _add_epoch(connection: Connection, experiment: int, epoch: Epoch) -> None:
    row = {"number": epoch.number, "arms": epoch_to_dict(epoch.arms), "begun": epoch.started_at}
    connection.execute(insert(EPOCHS).values(experiment=experiment, **row))


def _experiments(connection: Connection, name: str | None = None) -> tuple[StoredExperiment, ...]:
    query = select(EXPERIMENTS).order_by(EXPERIMENTS.c.id)
    rows = connection.execute(query if name is None else query.where(EXPERIMENTS.c.name == name)).all()
    epochs: dict[int, list[Epoch]] = {}
    for row in connection.execute(select(EPOCHS).order_by(EPOCHS.c.experiment, EPOCHS.c.number)):
        arms = {arm: EpochArm.model_validate(state) for arm, state in row.arms.items()}
        epochs.setdefault(row.experiment, []).append(Epoch(row.number, arms, row.begun))
    return tuple(
        StoredExperiment(
            row.id,
            row.name,
            StoredDefinition.model_validate(row.definition),
            row.status,
            row.created,
            tuple(epochs[row.id]),
        )
        for row in rows
    )


def _one(connection: Connection, name: str) -> StoredExperiment:
    found = _experiments(connection, name)
    if not found:
        raise KeyError(name)
    return found[0]
