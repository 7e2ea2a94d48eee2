"""Experiments for the tests, as a server has them: defined, compiled for a made-up vocabulary, and changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, Table, create_engine, func, select

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_server.experiments.definition import Change, Definition, parse_body, resolve_arms
from forkpoint_server.experiments.lifecycle import definition_to_store, first_epoch, next_epoch
from forkpoint_server.experiments.live import LiveExperiment, make_live
from forkpoint_server.experiments.service import Experiments
from forkpoint_server.policies.compiled import LabeledPolicy, compile_labeled
from forkpoint_server.policies.registry import Registry
from forkpoint_server.policies.resolve import read_policy_field
from forkpoint_server.store.experiments import Definitions, Epoch, StoredExperiment, add_experiment
from forkpoint_server.store.tables import ASSIGNMENTS
from tests.unit.policies.vocabularies import TARGET

REGISTRY = Registry()
HALVES: list[dict[str, Any]] = [{"name": "control", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}]


def define(number: int = 1, **fields: Any) -> StoredExperiment:
    """An experiment as it is stored, without a database. Raises InputError."""
    body = {"name": "one", "arms": HALVES, "salt": "s", **fields}
    definition = parse_body(Definition, body)
    arms = resolve_arms(definition, lambda policy: read_policy_field(policy, REGISTRY))
    unchanged, epoch = definition_to_store(definition, arms), first_epoch(definition)
    return StoredExperiment(number, definition.name, unchanged, definition.status, 0.0, (Epoch(0, epoch, 0.0),))


def changed(stored: StoredExperiment, **fields: Any) -> StoredExperiment:
    """The experiment after a change. Raises InputError or ApiError."""
    status, arms = next_epoch(stored, parse_body(Change, fields))
    epochs = stored.epochs if arms is None else (*stored.epochs, Epoch(stored.now.number + 1, arms, 0.0))
    return StoredExperiment(stored.id, stored.name, stored.definition, status, stored.created, epochs)


async def compile_one(labeled: LabeledPolicy) -> CompiledPolicy:
    return compile_labeled(labeled, TARGET)


async def live(stored: StoredExperiment) -> LiveExperiment:
    return await make_live(stored, compile_one)


def store(database: Engine, **fields: Any) -> StoredExperiment:
    """An experiment in a database."""
    stored = define(**fields)
    return add_experiment(database, stored.name, stored.definition, stored.status, stored.now.arms, 100)


def num_rows(database: Engine, table: Table = ASSIGNMENTS) -> int:
    """How many rows a table has."""
    with database.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


async def running(*stored: StoredExperiment, database: Engine | None = None) -> Experiments:
    """What a server runs when these experiments are stored."""
    found = Experiments(database or create_engine("sqlite://"), REGISTRY, compile_one, 16)
    await apply(found, *stored)
    return found


async def apply(experiments: Experiments, *stored: StoredExperiment, **policies: Any) -> None:
    """Let a server run these experiments, and no others."""
    await experiments.apply(Definitions(1, stored, policies))
    await experiments.all_compiled()


def three(**policies: Any) -> list[dict[str, Any]]:
    """Arms with a fifth of the units each."""
    return [{"name": name, "policy": policy, "weight": 0.2} for name, policy in policies.items()]


def fired(*columns: bool) -> NDArray[np.integer]:
    """How often these rules fired in a choice, in the program's order: at one of its tokens or at none."""
    return np.array(columns, np.int64)
