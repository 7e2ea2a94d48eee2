"""A request that has a policy, as the worker knows it."""

from __future__ import annotations

from dataclasses import dataclass

from forkpoint_policies.compile.program import Program

from .payload import PolicyPayload

GREEDY_BELOW = 1e-5  # vLLM takes the likeliest token below this temperature


@dataclass(frozen=True)
class Wanted:
    """What requests want of records: how many rules and alternatives they have, and the columns of branches."""

    rules: int = 0
    alternatives: int = 0
    branches: bool = False


@dataclass(frozen=True, eq=False)
class Request:
    """`temperature` is 0 where the request takes the likeliest token."""

    payload: PolicyPayload
    program: Program
    temperature: float

    @property
    def wanted(self) -> Wanted:
        branches = self.program.tree_rule_index is not None
        return Wanted(len(self.program.rules), self.payload.alternatives, branches)


def step_temperature(temperature: float) -> float:
    """The temperature of a request as a step takes it: 0 where vLLM takes the likeliest token."""
    return 0.0 if temperature < GREEDY_BELOW else temperature
