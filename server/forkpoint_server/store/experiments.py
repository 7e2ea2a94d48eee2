"""Experiments and stored policies as they lie in the database, and how they change: one change at a time, of all servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update

from .database import writing
from .tables import CHANGES, EPOCHS, EXPERIMENTS, POLICIES

DEFINITIONS = "definitions"


@dataclass(frozen=True)
class Epoch:
    """A period of unchanged weights. `arms`: per arm its `status` and its `intervals`: [from, to, epoch in which it was given]."""

    number: int
    arms: Mapping[str, Any]
    begun: float


@dataclass(frozen=True)
class Stored:
    """An experiment; `definition` is what never changes of it."""

    id: int
    name: str
    definition: Mapping[str, Any]
    status: str
    created: float
    epochs: tuple[Epoch, ...]

    @property
    def now(self) -> Epoch:
        return self.epochs[-1]


@dataclass(frozen=True)
class Definitions:
    """All that was defined, when `number` changes had been made."""

    number: int
    experiments: tuple[Stored, ...]  # in the order of their creation
    policies: Mapping[str, Any]


def read_number(database: Engine) -> int:
    """How many changes were made: while it stays the same, nothing has to be read again."""
    with database.connect() as connection:
        return _number(connection)


def read_definitions(database: Engine) -> Definitions:
    """Everything, as it was at one moment."""
    with writing(database) as connection:  # so that PostgreSQL, too, shows one moment to all statements
        connection.execute(select(CHANGES).with_for_update())
        return Definitions(_number(connection), _experiments(connection), _policies(connection))


@contextmanager
def changing(database: Engine) -> Iterator[Connection]:
    """A transaction that changes definitions: others wait for its end, and then see that there is something new."""
    with writing(database) as connection:
        connection.execute(update(CHANGES).where(CHANGES.c.what == DEFINITIONS).values(number=CHANGES.c.number + 1))
        yield connection


def add_experiment(
    database: Engine, name: str, definition: Mapping[str, Any], status: str, arms: Mapping[str, Any], most: int
) -> Stored:
    """Store a new experiment. Raises KeyError when its name is taken, OverflowError when there are `most` already."""
    now = time.time()
    with changing(database) as connection:
        there = _experiments(connection)
        if any(one.name == name for one in there):
            raise KeyError(name)
        if len(there) >= most:
            raise OverflowError(most)
        row = {"name": name, "definition": dict(definition), "status": status, "created": now}
        number = connection.execute(insert(EXPERIMENTS).values(row).returning(EXPERIMENTS.c.id)).scalar_one()
        connection.execute(insert(EPOCHS).values(experiment=number, number=0, arms=dict(arms), begun=now))
        return Stored(number, name, definition, status, now, (Epoch(0, arms, now),))


def change_experiment(
    database: Engine, name: str, change: Callable[[Stored], tuple[str, Mapping[str, Any] | None]]
) -> Stored:
    """Change an experiment: `change` gives its new status and, for a new epoch, its arms. Raises KeyError when there is none.

    What `change` raises undoes everything.
    """
    with changing(database) as connection:
        stored = _one(connection, name)
        status, arms = change(stored)
        connection.execute(update(EXPERIMENTS).where(EXPERIMENTS.c.id == stored.id).values(status=status))
        if arms is not None:
            number = stored.now.number + 1
            connection.execute(
                insert(EPOCHS).values(experiment=stored.id, number=number, arms=dict(arms), begun=time.time())
            )
        return _one(connection, name)


def remove_experiment(database: Engine, name: str, check: Callable[[Stored], None]) -> None:
    """Delete an experiment with all that was recorded of it, unless `check` raises. Raises KeyError when there is none."""
    with changing(database) as connection:
        stored = _one(connection, name)
        check(stored)
        connection.execute(delete(EXPERIMENTS).where(EXPERIMENTS.c.id == stored.id))


def put_policy(database: Engine, name: str, policy: Mapping[str, Any]) -> bool:
    """Store a policy, in place of an earlier one of that name; whether it is a new one."""
    row = {"policy": dict(policy), "changed": time.time()}
    with changing(database) as connection:
        replaced = connection.execute(update(POLICIES).where(POLICIES.c.name == name).values(row)).rowcount
        if not replaced:
            connection.execute(insert(POLICIES).values(name=name, **row))
        return not replaced


def remove_policy(database: Engine, name: str, check: Callable[[tuple[Stored, ...]], None]) -> None:
    """Delete a stored policy, unless `check` raises at the experiments there are. Raises KeyError when there is none."""
    with changing(database) as connection:
        if name not in _policies(connection):
            raise KeyError(name)
        check(_experiments(connection))
        connection.execute(delete(POLICIES).where(POLICIES.c.name == name))


def _number(connection: Connection) -> int:
    return int(connection.execute(select(CHANGES.c.number).where(CHANGES.c.what == DEFINITIONS)).scalar_one())


def _policies(connection: Connection) -> dict[str, Any]:
    return {
        row.name: row.policy
        for row in connection.execute(select(POLICIES.c.name, POLICIES.c.policy).order_by(POLICIES.c.name))
    }


def _experiments(connection: Connection, name: str | None = None) -> tuple[Stored, ...]:
    wanted = select(EXPERIMENTS).order_by(EXPERIMENTS.c.id)
    rows = connection.execute(wanted if name is None else wanted.where(EXPERIMENTS.c.name == name)).all()
    epochs: dict[int, list[Epoch]] = {}
    for row in connection.execute(select(EPOCHS).order_by(EPOCHS.c.experiment, EPOCHS.c.number)):
        epochs.setdefault(row.experiment, []).append(Epoch(row.number, row.arms, row.begun))
    return tuple(
        Stored(row.id, row.name, row.definition, row.status, row.created, tuple(epochs[row.id])) for row in rows
    )


def _one(connection: Connection, name: str) -> Stored:
    found = _experiments(connection, name)
    if not found:
        raise KeyError(name)
    return found[0]
