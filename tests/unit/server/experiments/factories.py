"""Experiments as a server has them, for the tests: defined, compiled for a made-up vocabulary, and changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_server.experiments.definition import parse_change, parse_definition
from forkpoint_server.experiments.lifecycle import definition_of, next_epoch
from forkpoint_server.experiments.live import Live, make_live
from forkpoint_server.policies.compiled import LabeledPolicy, compile_labeled
from forkpoint_server.policies.registry import Registry
from forkpoint_server.policies.resolve import read_policy_field
from forkpoint_server.store.experiments import Epoch, Stored, add_experiment
from tests.unit.policies.vocabularies import TARGET

REGISTRY = Registry()
HALVES: list[dict[str, Any]] = [{"name": "control", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}]


def define(number: int = 1, **fields: Any) -> Stored:
    """An experiment as it is stored, without a database. Raises InputError."""
    body = {"name": "one", "arms": HALVES, "salt": "s", **fields}
    definition, arms = parse_definition(body, lambda policy: read_policy_field(policy, REGISTRY))
    kept, first = definition_of(definition, arms)
    return Stored(number, definition.name, kept, definition.status, 0.0, (Epoch(0, first, 0.0),))


def changed(stored: Stored, **fields: Any) -> Stored:
    """The same after a change. Raises InputError or ApiError."""
    status, arms = next_epoch(stored, parse_change(fields))
    epochs = stored.epochs if arms is None else (*stored.epochs, Epoch(stored.now.number + 1, arms, 0.0))
    return Stored(stored.id, stored.name, stored.definition, status, stored.created, epochs)


async def compile_one(labeled: LabeledPolicy) -> CompiledPolicy:
    return compile_labeled(labeled, TARGET)


async def live(stored: Stored) -> Live:
    return await make_live(stored, compile_one)


def store(database: Engine, **fields: Any) -> Stored:
    """An experiment in a database."""
    stored = define(**fields)
    return add_experiment(database, stored.name, stored.definition, stored.status, stored.now.arms, 100)
