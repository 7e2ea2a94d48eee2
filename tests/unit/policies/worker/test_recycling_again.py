"""What a step's record says of positions that the model has computed again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.steering.again import Again, Ends, Forward
from forkpoint_policies.worker.steering.shared import STEERING
from tests.unit.policies.factories import CPU, Record, Request, fired, policy, rule, step
from tests.unit.policies.vocabularies import SIZE, TARGET
from tests.unit.policies.worker.attached_buffers import attached

LAYER = 3
SERVED = replace(TARGET, recycle_layers=(LAYER,))
OTHER = rule({"every": 2}, observe={})
SURE = parse_policy(
    policy(OTHER, rule({"top_probability_above": 0.5, "at_most": 2}, recycle={"layer": LAYER, "from": "again"}))
)


class Layer(nn.Module):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return 2 * hidden_states


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(KERNEL_VARIABLE, request.param)
    with attached(1, (), (LAYER,)):
        STEERING.again = Again({LAYER: Layer()}, num_tokens=1)
        yield


def records(own: Policy, count: int) -> list[Record]:
    """Those of an answer whose model is sure at positions 1, 2, 4, 5, …, and unsure once it has computed them again."""
    slots, found = PolicySlots(1, SIZE, CPU), []
    slots.add(0, Request(compile_policy(own, SERVED).program, seed=5).payload(), 1.0, [])
    for position in range(count):
        first, second = torch.zeros(2, 1, SIZE)
        first[0, 7] += 30.0 * (position % 3 > 0)
        STEERING.again.expect(
            Ends(np.zeros(1, np.int32), torch.tensor([position]), torch.tensor([0]), torch.tensor([1]))
        )
        STEERING.again.keep(Forward(lambda _slots: torch.ones(1, 4), {}))
        changed = STEERING.again.states(torch.ones(1, 4), first)
        found.append(step(slots, [0], [position], [1], first if changed is None else second))
    return found


def test_a_rule_that_has_fired_is_recorded_beside_the_others() -> None:
    """The rule is the first of the program. It fires where the first distribution says so, at most twice."""
    assert [fired(one) for one in records(SURE, 6)] == [[1], [0], [0, 1], [], [1], []]


def test_a_placebo_records_what_it_owes() -> None:
    """Over many positions it fires as often as the conditions held, which its record says."""
    sure = parse_policy(policy(rule({"top_probability_above": 0.5}, recycle={"layer": LAYER, "from": "again"})))
    own = records(placebo_of(sure, "positions"), 90)
    held = [float(one.inherited[0, 1]) for one in own]
    assert held == [float(position % 3 > 0) for position in range(90)]
    assert all(float(one.inherited[0, 2]) == 1.0 for one in own)
    assert abs(sum(fired(one) == [0] for one in own) - 60) <= 8
