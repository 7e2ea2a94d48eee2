"""From a rule that fires to what the hooks read, through both kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Program
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_policies.worker.artefacts import ARTEFACTS
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.steering.hooks import Buffers
from forkpoint_policies.worker.steering.shared import STEERING, TABLE_ROWS, Requests
from tests.unit.policies.factories import CPU, Request, policy, random_logits, rule, step
from tests.unit.policies.hidden.artefact_files import SIZE as WIDTH
from tests.unit.policies.hidden.artefact_files import VECTOR
from tests.unit.policies.vocabularies import SIZE, TARGET

LAYERS = (2, 10)
SERVED = replace(TARGET, artefacts={"calm": VECTOR}, hidden_layers=LAYERS)
STEERED = parse_policy(policy(rule({"every": 3}, steer={"vector": "calm", "scale": -2.0, "tokens": 2})))
PROMPT_LEN, MAX_TOKENS = 5, 16


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, request.param)


@pytest.fixture
def buffers() -> Iterator[Buffers]:
    """Those of a model with two hooked layers."""
    made = Buffers(torch.zeros(MAX_TOKENS, dtype=torch.int64), torch.zeros(MAX_TOKENS), max_positions=64)
    made.tables.update({layer: torch.zeros(TABLE_ROWS, WIDTH) for layer in LAYERS})
    assert ARTEFACTS.put(VECTOR.raw) == ""
    STEERING.attach(made)
    yield made
    STEERING.attach(Buffers(torch.zeros(0, dtype=torch.int64), torch.zeros(0), max_positions=0))


def program_of(own: Policy) -> Program:
    return compile_policy(own, SERVED).program


def write(slots: PolicySlots, slot: int, count: int) -> None:
    """Let the request in a slot generate so many tokens."""
    for position in range(count):
        step(slots, [slot], [position], [position], random_logits(1, SIZE))


def added(buffers: Buffers, slot: int, num_tokens: int, layer: int = 2) -> torch.Tensor:
    """What is added to the tokens of a request that is computed from its start [num_tokens, D], beside another one."""
    requests = Requests(np.array([-1, slot], np.int32), torch.tensor([2, PROMPT_LEN]))
    positions = torch.cat((torch.arange(3), torch.arange(num_tokens), torch.zeros(2, dtype=torch.int64)))
    STEERING.place(requests, torch.tensor([0, 3, 3 + num_tokens]), positions, torch.zeros_like(positions))
    found = buffers.scale[:, None] * buffers.tables[layer][buffers.row_of]
    assert not found[:3].any(), "of the other request"
    assert not found[3 + num_tokens :].any(), "padding"
    return found[3 : 3 + num_tokens]


@pytest.mark.parametrize("layer", LAYERS)
def test_the_tokens_that_a_rule_names_get_its_vector(buffers: Buffers, layer: int) -> None:
    slots = PolicySlots(4, SIZE, CPU)
    slots.add(2, Request(program_of(STEERED)).payload(), 1.0, [])
    write(slots, 2, 5)
    found = added(buffers, 2, PROMPT_LEN + 6, layer)
    expected = torch.zeros(PROMPT_LEN + 6, WIDTH)
    for generated in (0, 1, 3, 4):
        expected[PROMPT_LEN + generated] = -2.0 * torch.from_numpy(VECTOR.tensors[f"layer.{layer}"])
    assert torch.equal(found, expected)


def test_a_placebo_adds_as_much_elsewhere(buffers: Buffers) -> None:
    slots = PolicySlots(4, SIZE, CPU)
    slots.add(0, Request(program_of(STEERED)).payload(), 1.0, [])
    slots.add(1, Request(program_of(placebo_of(STEERED)), handle=9).payload(), 1.0, [])
    for slot in (0, 1):
        write(slots, slot, 4)
    own, placebo = (added(buffers, slot, PROMPT_LEN + 4) for slot in (0, 1))
    assert torch.allclose(own.norm(dim=1), placebo.norm(dim=1))
    assert not torch.allclose(own, placebo, atol=0.1)


def test_a_request_in_shadow_or_without_such_a_rule_adds_nothing(buffers: Buffers) -> None:
    slots = PolicySlots(4, SIZE, CPU)
    slots.add(0, Request(program_of(STEERED.in_shadow())).payload(), 1.0, [])
    slots.add(1, Request(program_of(parse_policy(policy(rule(observe={})))), handle=9).payload(), 1.0, [])
    assert not STEERING.changes(torch.tensor([0, 1]).numpy())


def test_a_preempted_request_is_computed_again_as_it_was(buffers: Buffers) -> None:
    slots, program = PolicySlots(4, SIZE, CPU), program_of(STEERED)
    slots.add(2, Request(program, handle=7).payload(), 1.0, [])
    write(slots, 2, 5)
    before = added(buffers, 2, PROMPT_LEN + 5)
    slots.remove(2)
    assert not STEERING.changes(torch.tensor([2]).numpy())
    slots.add(0, Request(program, handle=7).payload(), 1.0, list(range(5)))
    assert torch.equal(added(buffers, 0, PROMPT_LEN + 5), before)


def test_nothing_is_added_after_the_last_request_that_steers(buffers: Buffers) -> None:
    slots = PolicySlots(4, SIZE, CPU)
    slots.add(2, Request(program_of(STEERED)).payload(), 1.0, [])
    write(slots, 2, 2)
    assert added(buffers, 2, PROMPT_LEN + 1).any()
    STEERING.clear()
    assert not buffers.scale.any()
    assert not buffers.row_of.any()


def test_a_vector_that_is_not_in_the_worker_is_not_added(
    buffers: Buffers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ARTEFACTS, "_held", {})
    slots = PolicySlots(4, SIZE, CPU)
    slots.add(2, Request(program_of(STEERED)).payload(), 1.0, [])
    write(slots, 2, 2)
    assert not added(buffers, 2, PROMPT_LEN + 1).any()
    assert "a request is not steered: its vector is not in this worker" in caplog.text
