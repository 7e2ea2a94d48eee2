"""Contexts of requests whose tokens and records a test writes down, as the engine and the worker would."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.worker.records import num_columns, row_type
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.vocabularies import TARGET

CONNECTORS = find_connectors(TARGET.vocabulary)
THRESHOLD = 0.672
NO_RECEIVER: Any = None  # nothing arrives: tests add the records themselves


def add_record(
    trace: Trace, position: int, entropy: float, flags: int = 0, effects: tuple[float, ...] = (0.0, 0.0)
) -> None:
    """Add the record of a position, with the effect of each rule."""
    numbers = np.array([entropy, 0, 0, 0, *effects], np.float32)
    head = np.array([trace.handle, position, 0, flags], np.int32)
    row = np.concatenate((head, numbers.view(np.int32))).tobytes()
    trace.add(num_columns(row_type(len(effects))), len(effects), row)


def context_of(*do: dict[str, Any], label: str = "it", **fields: Any) -> RequestContext:
    """The context of a request whose policy has a rule for each of `do`; with the label `none`, one only observed."""
    policy = parse_policy({"name": "it", "rules": [{"do": one} for one in do] or [{"do": {"observe": {}}}]})
    compiled = replace(compile_policy(policy, TARGET), label=label)
    return RequestContext(
        compiled, TARGET, fields.pop("receiver", NO_RECEIVER), CONNECTORS, fork_threshold=THRESHOLD, **fields
    )
