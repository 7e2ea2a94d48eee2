"""Conditions on readouts, in the worker: which positions they hold at, in both steps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.hidden.readouts import Readout
from forkpoint_policies.kernel.native.columns import NUM_HIDDEN
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.worker.artefacts import WorkerArtefacts
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from tests.unit.policies.factories import CPU, Json, Record, Request, fired, random_logits, rule
from tests.unit.policies.hidden.artefact_files import mlp_readout, readout
from tests.unit.policies.kernel.readout_programs import compiled_with
from tests.unit.policies.vocabularies import SIZE

LENGTH, WIDTH = 24, 16
MODEL = Model("Qwen3ForCausalLM", WIDTH)
READOUTS = {"correct": readout(model=MODEL), "sure": mlp_readout(MODEL)}
STATES = torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(7))


def values(artefact: Artefact) -> list[float]:
    return Readout.of(artefact, CPU).values(STATES)


def between(numbers: list[float]) -> float:
    """A threshold in the widest gap of the middle half, so that no value is near it."""
    middle = sorted(numbers)[LENGTH // 4 : 3 * LENGTH // 4]
    gaps = [(high - low, (high + low) / 2) for low, high in pairwise(middle)]
    return max(gaps)[1]


def run(rules: list[Json], artefacts: WorkerArtefacts, beside: list[Json] | None = None) -> list[list[int]]:
    """Which rules fire at each position; the last signals of hidden states are checked against the values."""
    slots = PolicySlots(2, SIZE, CPU, artefacts=artefacts)
    compiled = compiled_with(READOUTS, *rules)
    slots.add(0, Request(compiled.program).payload(), 1.0, [])
    rows = [0]
    if beside is not None:
        slots.add(1, Request(compiled_with(READOUTS, *beside).program, handle=2).payload(), 1.0, [])
        rows = [1, 0]
    found = []
    for position in range(LENGTH):
        batch = Batch(
            torch.tensor(rows, dtype=torch.int32),
            torch.full((len(rows),), position - 1),
            torch.zeros(len(rows), dtype=torch.int64),
            torch.zeros(2, dtype=torch.int32),
        )
        record = slots.step(batch, random_logits(len(rows), SIZE, seed=position), STATES[position].repeat(len(rows), 1))
        found.append(fired(Record.of(record, [len(rows) - 1], len(compiled.program.rules))))
        if compiled.readouts:
            assert record.hidden is not None
            assert record.hidden.shape[1] == NUM_HIDDEN
            for column, name in enumerate(compiled.readouts):
                expected = np.float32(values(READOUTS[name])[position])
                got = record.hidden[-1, 3 + column].item()
                assert got == expected or (np.isnan(got) and artefacts.get(READOUTS[name].digest) is None)
    return found


@pytest.fixture
def sent() -> WorkerArtefacts:
    artefacts = WorkerArtefacts()
    assert [artefacts.put(one.raw) for one in READOUTS.values()] == ["", ""]
    return artefacts


@pytest.mark.parametrize("step", ["native", "torch"])
@pytest.mark.parametrize(
    "beside", [None, [], ["effective_rank"], ["readout"]], ids=["alone", "plain", "rank", "readout"]
)
def test_bounds_hold_where_the_value_lies_within_them(
    step: str, beside: list[str] | None, sent: WorkerArtefacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, step)
    correct, sure = between(values(READOUTS["correct"])), between(values(READOUTS["sure"]))
    rules = [
        rule({"readout_above": {"name": "correct", "value": correct}}, observe={}),
        rule({"readout_below": {"name": "sure", "value": sure}}, observe={}),
        rule(
            {"readout_above": {"name": "sure", "value": sure}, "readout_below": {"name": "correct", "value": correct}},
            observe={},
        ),
    ]
    conditions: dict[str, Json] = {
        "effective_rank": {"effective_rank_above": 1.0},
        "readout": {"readout_above": {"name": "sure", "value": 0.0}},
    }
    other = None if beside is None else [rule(conditions[one], observe={}) for one in beside] or [rule(observe={})]
    pairs = zip(values(READOUTS["correct"]), values(READOUTS["sure"]), strict=True)
    expected = [
        [0] * (first > correct) + [1] * (second < sure) + [2] * (second > sure and first < correct)
        for first, second in pairs
    ]
    assert run(rules, sent, other) == expected
    assert all(any(number in row for row in expected) for number in range(3))


@pytest.mark.parametrize("step", ["native", "torch"])
def test_one_that_was_not_sent_holds_nowhere(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, step)
    rules = [rule({bound: {"name": "sure", "value": 0.0}}, observe={}) for bound in ("readout_above", "readout_below")]
    assert run(rules, WorkerArtefacts()) == [[]] * LENGTH


def test_a_running_request_has_the_readout_that_it_began_with() -> None:
    """Another is sent under the same name, and the first is dropped."""
    artefacts = WorkerArtefacts(max_held=1)
    artefacts.put(READOUTS["correct"].raw)
    slots = PolicySlots(1, SIZE, CPU, artefacts=artefacts)
    program = compiled_with(READOUTS, rule({"readout_above": {"name": "correct", "value": 0.0}}, observe={})).program
    slots.add(0, Request(program).payload(), 1.0, [])
    artefacts.put(READOUTS["sure"].raw)
    batch = Batch(torch.zeros(1, dtype=torch.int32), torch.tensor([-1]), torch.tensor([0]), torch.zeros(1).int())
    record = slots.step(batch, random_logits(1, SIZE), STATES[:1])
    assert record.hidden is not None
    assert record.hidden[0, 3].item() == np.float32(values(READOUTS["correct"])[0])
