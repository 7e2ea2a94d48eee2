"""Actions that are files of their own, by one made for these tests: it divides the logits by a number that grows with
the request's past entropies and with how often it acted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from msgspec import structs
from torch import Tensor

from forkpoint_policies.actions.definition import ActionFile, Fields, Place, Rows, Seen
from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.compile.program import Action, CompiledRule, ControlKind, Program
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.record_flags import LEFT_ALONE
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies import float64_reference
from tests.unit.policies.factories import (
    CPU,
    FULL,
    Json,
    Request,
    Run,
    compiled,
    effects,
    fired,
    policy,
    random_logits,
    rule,
    step,
)
from tests.unit.policies.vocabularies import SIZE

PER_NAT, PER_FIRE = 0.25, 0.5
STREAM = [300, 301, 7, 302, 299, 301]
SCALES = (0.5, 2.0, 1.0, 3.0, 0.2, 1.5, 4.0)


def _act(rows: Rows) -> Tensor:
    divisor = 1 + rows.parameters[:, 0] * rows.state[:, 0] + rows.parameters[:, 1] * rows.state[:, 1]
    return rows.logits.div_(divisor[:, None])


def _advance(state: Tensor, seen: Seen) -> Tensor:
    return torch.stack((state[:, 0] + seen.entropy, state[:, 1] + seen.fired), dim=1)


def _forbid(rows: Rows) -> Tensor:
    return torch.full_like(rows.logits, -torch.inf)


COOLS = ActionFile(Fields, Place.TEMPERATURE, lambda fields, served: (), _act, ({},), state_size=2, advance=_advance)
FORBIDS = ActionFile(Fields, Place.MASK, lambda fields, served: (), _forbid, ({},))


@pytest.fixture(autouse=True)
def actions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIONS, "cools", COOLS)
    monkeypatch.setitem(ACTIONS, "forbids", FORBIDS)


def program(when: Json | None = None, name: str = "cools", **fields: object) -> Program:
    """A program of one rule with the action."""
    written = compiled(policy(rule(when, observe={})))
    own = structs.replace(
        written.rules[0], action=Action.DECLARED, declared=name, parameters=[PER_NAT, PER_FIRE], **fields
    )
    return structs.replace(written, rules=[own])


def logits_at(position: int, seed: int = 0) -> Tensor:
    made = random_logits(SIZE, seed=100 * seed + position, scale=SCALES[position % len(SCALES)])
    made[position::7] = -torch.inf
    return made


@dataclass(frozen=True)
class Expected:
    """A row in float64."""

    logits: float64_reference.Floats
    effect: float


def in_float64(positions: int, fires: Sequence[bool], temperature: float = 1.0, seed: int = 0) -> list[Expected]:
    """What each position of a request gets; `fires` says where the rule acts."""
    total, count, found = 0.0, 0, []
    for position in range(positions):
        before = logits_at(position, seed).double().numpy()
        after = before / (1 + PER_NAT * total + PER_FIRE * count) if fires[position] else before
        shares = [float64_reference.distribution(one.astype(np.float32), temperature) for one in (before, after)]
        found.append(Expected(after, float64_reference.distance(*shares)))
        total += float64_reference.entropy(float64_reference.distribution(before))
        count += fires[position]
    return found


def check(logits: Tensor, wanted: Expected) -> None:
    assert np.allclose(logits.double().numpy(), wanted.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_each_position_is_that_of_float64(temperature: float) -> None:
    run = Run(Request(program({"entropy_above": 3.0}), temperature))
    entropies = [float64_reference.distribution(logits_at(at).numpy()) for at in range(7)]
    fires = [float64_reference.entropy(one) > 3.0 for one in entropies]
    assert 0 < sum(fires) < 7
    for position, wanted in enumerate(in_float64(7, fires, temperature)):
        changed = logits_at(position)[None].clone()
        record = run.step(changed, [STREAM[:position]])
        assert fired(record) == [0] * fires[position]
        check(changed[0], wanted)
        assert effects(record)[0] == pytest.approx(wanted.effect, abs=1e-5)


def test_rows_beside_others_are_what_they_are_alone() -> None:
    requests = [
        Request(compiled(FULL), alternatives=3), Request(program(), 0.7, alternatives=2), Request(None),
        Request(program({"entropy_above": 2.0}), 0.0), Request(compiled(policy(rule(truncate={"top_p": 0.5})))),
    ]  # fmt: skip
    together, alone = Run(*requests), [Run(one) for one in requests]
    random = np.random.default_rng(0)
    generated: list[list[int]] = [[] for _ in requests]
    for time in range(8):
        batch = [int(one) for one in random.permutation(len(requests))]
        logits = torch.stack([logits_at(time, number) for number in batch])
        changed = logits.clone()
        record = together.step(changed, generated, batch)
        row_of_record = 0
        for row, number in enumerate(batch):
            single = logits[row : row + 1].clone()
            if requests[number].program is not None:
                one = alone[number].step(single, [generated[number]])
                width = one.numbers.shape[1]
                assert torch.equal(record.numbers[row_of_record, :width], one.numbers[0])
                assert (record.position[row_of_record], record.flags[row_of_record]) == (one.position[0], one.flags[0])
                row_of_record += 1
            assert torch.equal(changed[row], single[0]), (time, number)
        for text in generated:
            if random.random() < 0.7:  # else it is evaluated again
                text.append(int(random.integers(256, SIZE)))


def test_state_follows_committed_tokens_whatever_the_drafts() -> None:
    depth, fires = 3, [True] * 7
    wanted = in_float64(7, fires)
    for accepted in range(depth):
        slots = PolicySlots(2, SIZE, CPU, depth)
        slots.add(1, Request(program(), handle=1).payload(), 1.0, [])
        slots.add(0, Request(compiled(FULL), handle=2).payload(), 1.0, [])
        committed = 0
        while committed + depth <= 7:
            before = [committed + offset for offset in range(depth)]
            last = [STREAM[one - 1] if one and offset <= accepted else 9 for offset, one in enumerate(before)]
            rows = torch.stack([logits_at(one) for one in (committed, *before)])
            step(slots, [0, *[1] * depth], [committed, *before], [last[0], *last], rows)
            for offset in range(accepted + 1):
                check(rows[1 + offset], wanted[committed + offset])
            committed += accepted + 1


def test_a_preempted_request_goes_on_where_it_was() -> None:
    wanted = in_float64(5, [True] * 5)
    slots, payload = PolicySlots(3, SIZE, CPU), Request(program(), handle=7).payload()
    slots.add(1, payload, 1.0, [])
    for position in range(5):
        if position == 3:
            slots.remove(1)
            slots.add(0, Request(compiled(FULL), handle=8).payload(), 1.0, [])
            slots.add(2, payload, 1.0, STREAM[:3])
        changed = logits_at(position)[None].clone()
        step(slots, [1 if position < 3 else 2], [position], STREAM[position - 1 : position] or [0], changed)
        check(changed[0], wanted[position])


def test_a_slot_is_reused_from_the_start() -> None:
    slots = PolicySlots(1, SIZE, CPU)
    for handle, one in enumerate([program(), compiled(FULL), program()], 1):
        slots.add(0, Request(one, handle=handle).payload(), 1.0, [])
        for position in range(2):
            changed = logits_at(position)[None].clone()
            step(slots, [0], [position], [STREAM[0]], changed)
            if handle != 2:
                check(changed[0], in_float64(2, [True] * 2)[position])
        slots.remove(0)


def test_in_shadow_it_is_recorded_and_changes_nothing() -> None:
    shadow = Run(Request(structs.replace(program(), shadow=True)))
    for position, wanted in enumerate(in_float64(4, [True] * 4)):
        changed = logits_at(position)[None].clone()
        record = shadow.step(changed, [STREAM[:position]])
        assert torch.equal(changed[0], logits_at(position))
        assert fired(record) == [0]
        assert effects(record)[0] == pytest.approx(wanted.effect, abs=1e-5)


def test_a_row_that_would_have_no_token_stays_as_it_was() -> None:
    run = Run(Request(program(name="forbids")))
    changed = logits_at(0)[None].clone()
    record = run.step(changed, [[]])
    assert torch.equal(changed[0], logits_at(0))
    assert (fired(record), effects(record)[0], int(record.flags[0]) & LEFT_ALONE) == ([0], 0.0, 0)
    nothing = torch.full((1, SIZE), -torch.inf)
    assert effects(run.step(nothing, [STREAM[:1]]))[0] == 0.0
    assert torch.isneginf(nothing).all()


@pytest.mark.parametrize("control", [ControlKind.PROBABILITY, ControlKind.POSITIONS])
def test_placebos(control: ControlKind) -> None:
    """By probability, as much is moved among other tokens; by positions, it acts about as often."""
    run = Run(Request(program({"entropy_above": 3.0}, control=control), seed=5), Request(compiled(FULL)))
    acted, text = 0, list[int]()
    for position in range(60):
        changed = logits_at(position)[None].repeat(2, 1)
        record = run.step(changed, [text, text])
        acted += fired(record) == [0]
        assert torch.equal(torch.isneginf(changed[0]), torch.isneginf(logits_at(position)))
        text = [*text, STREAM[position % len(STREAM)]]
    held = sum(
        float64_reference.entropy(float64_reference.distribution(logits_at(one).numpy())) > 3.0 for one in range(60)
    )
    assert abs(acted - held) <= (12 if control == ControlKind.POSITIONS else 0)


def test_a_declaration_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="needs `advance`"):
        replace(COOLS, advance=None)
    with pytest.raises(ValueError, match="from 0 to 4, not 5"):
        replace(COOLS, state_size=5)


def test_only_its_requests_take_the_slower_step(kernel: str) -> None:
    slots = PolicySlots(2, SIZE, CPU)
    slots.add(0, Request(compiled(FULL), handle=1).payload(), 1.0, [])
    if kernel != "torch":
        assert slots.slots._in_torch is None  # type: ignore[union-attr]
    slots.add(1, Request(program(), handle=2).payload(), 1.0, [])
    batch = torch.stack([logits_at(0), logits_at(0)])
    record = step(slots, [0, 1], [0, 0], [0, 0], batch)
    assert record.position.tolist() == [0, 0]
    if kernel != "torch":
        assert [slots.slots.takes_torch(slot) for slot in (0, 1)] == [False, True]  # type: ignore[union-attr]
        assert slots.slots.native.tables.tables["slots"][1, c.PROGRAM] == c.NONE  # type: ignore[union-attr]


def test_rules_of_several_actions_keep_their_order() -> None:
    """A declared action sees what the rules before it left."""
    both = compiled(policy(rule(suppress={"token_ids": [7]}), rule(observe={})))
    declared = structs.replace(both.rules[0], action=Action.DECLARED, declared="cools", parameters=[PER_NAT, PER_FIRE])
    rules: list[CompiledRule] = [both.rules[1], structs.replace(declared, number=0)]
    run = Run(Request(structs.replace(both, rules=rules)))
    text = list[int]()
    for position, wanted in enumerate(in_float64(3, [True] * 3)):
        changed = logits_at(position)[None].clone()
        run.step(changed, [text])
        masked = wanted.logits.copy()
        masked[7] = -np.inf
        check(changed[0], Expected(masked, 0.0))
        text = [*text, STREAM[position]]
