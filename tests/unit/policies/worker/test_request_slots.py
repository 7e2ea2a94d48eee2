"""Requests in slots: added, preempted, resumed and removed, with programs on the device while they are in use."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.batch import Layout, SlotRow
from forkpoint_policies.kernel.step import Record, Rows, step
from forkpoint_policies.worker.request_slots import MAX_TABLES, RequestSlots
from tests.unit.policies.factories import CPU, Request, compiled, fired, policy, random_logits, rule
from tests.unit.policies.vocabularies import END_THINK, SIZE, token, tokens

WAIT, COOL = {"words": ["wait"]}, rule({"region": "answer"}, temperature=2.0)
ALWAYS = compiled(policy(rule(suppress=WAIT), COOL))
TWICE = compiled(policy(rule({"at_most": 2}, suppress=WAIT), COOL))
LOGITS = random_logits(SIZE)


def evaluate(slots: RequestSlots, rows: list[SlotRow], generated: list[list[int]]) -> tuple[Record, Tensor]:
    """One step of these requests and no others, on the same logits."""
    layout, _ = slots.layout([one.at(row) for row, one in enumerate(rows)], len(rows))
    changed = LOGITS.repeat(len(rows), 1)
    position = torch.tensor([len(one) for one in generated])
    last = torch.tensor([one[-1] if one else 0 for one in generated])
    return step(slots.slots, Rows(layout, position, last), changed), changed


def numbered(number: int) -> Program:
    """One of many different programs."""
    return compiled(policy(rule(suppress={"token_ids": [number]})))


def test_a_request_starts_where_its_prompt_ends() -> None:
    slots = RequestSlots(4, SIZE, CPU)
    state, _ = TWICE.follow(tokens("Wa"))
    core = slots.slots.state.core
    slots.add(2, Request(TWICE, word_state=state, region=Region.ANSWER).payload(), 1.0, [])
    assert (int(core.position[2]), int(core.word_state[2]), int(core.region[2])) == (0, state, Region.ANSWER)


def test_a_resumed_request_is_where_it_was() -> None:
    """After a preemption its tokens are sent again; the state must be that of a request that was never interrupted."""
    generated = [*tokens("so|, wait"), END_THINK, *tokens(" |W|a")]
    slots, other = RequestSlots(4, SIZE, CPU), RequestSlots(4, SIZE, CPU)
    steady = slots.add(0, Request(ALWAYS).payload(), 1.0, [])
    for position in range(len(generated) + 1):
        record, changed = evaluate(slots, [steady], [generated[:position]])
    resumed = other.add(3, Request(ALWAYS).payload(), 1.0, generated)
    again, same = evaluate(other, [resumed], [generated])
    assert torch.equal(changed, same)
    assert torch.isneginf(same[0, token("it")])
    assert fired(record) == fired(again) == [0, 1]
    assert torch.equal(record.numbers, again.numbers)


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("committed", [0, 1])
def test_at_most_survives_a_preemption(committed: int, removed: bool) -> None:
    """What fired at the last position counts only if its token was committed. V2 does not report a preemption."""
    slots, generated = RequestSlots(4, SIZE, CPU), tokens("a|b|c")
    first = slots.add(0, Request(TWICE, handle=7).payload(), 1.0, [])
    assert [fired(evaluate(slots, [first], [generated[:position]])[0]) for position in (0, 1)] == [[0], [0]]
    if removed:
        slots.remove(0)
    other = slots.add(0 if removed else 2, Request(TWICE, handle=8).payload(), 1.0, [])
    assert fired(evaluate(slots, [other], [[]])[0]) == [0], "another request starts anew"
    resumed = slots.add(1, Request(TWICE, handle=7).payload(), 1.0, generated[: 1 + committed])
    expected: list[list[int]] = [[], []] if committed else [[0], []]
    record, _ = evaluate(slots, [resumed], [generated[: 1 + committed]])
    after, _ = evaluate(slots, [resumed], [generated[: 2 + committed]])
    assert [fired(record), fired(after)] == expected


def test_a_new_request_of_another_handle_has_no_counts() -> None:
    slots = RequestSlots(1, SIZE, CPU)
    for handle in (1, 2, 3):
        assignment = slots.add(0, Request(TWICE, handle=handle).payload(), 1.0, [])
        seen = [fired(evaluate(slots, [assignment], [tokens("a|b|c")[:position]])[0]) for position in range(4)]
        assert seen == [[0], [0], [], []]
        slots.remove(0)


@pytest.mark.parametrize(("temperature", "greedy"), [(0.0, True), (1e-6, True), (1e-4, False), (1.0, False)])
def test_greedy_is_what_vllm_takes_for_it(temperature: float, greedy: bool) -> None:
    slots = RequestSlots(1, SIZE, CPU)
    assignment = slots.add(0, Request(TWICE).payload(), temperature, [])
    assert (assignment.temperature == 0) == greedy
    layout, _ = slots.layout([assignment.at(0)], 1)
    assert (layout.greedy is not None) == greedy
    assert layout.temperature.tolist() == [1.0 if greedy else pytest.approx(temperature)]


def plain_layout(**request: float) -> Layout:
    slots = RequestSlots(2, SIZE, CPU)
    program = compiled(policy(rule(suppress={"token_ids": [1]})))
    assignment = slots.add(0, Request(program).payload(), request.get("temperature", 1.0), [])
    return slots.layout([assignment.at(0)], 1)[0]


def test_a_layout_has_only_the_parts_that_its_batch_needs() -> None:
    layout = plain_layout()
    assert (layout.rows, layout.moves, layout.marks, layout.shadow, layout.greedy, layout.detailed) == (None,) * 6
    assert (layout.tempered, layout.windowed, layout.forcing) == (None,) * 3
    assert plain_layout(temperature=0.7).tempered is not None


def test_records_go_to_the_addresses_of_their_requests() -> None:
    slots = RequestSlots(5, SIZE, CPU)
    requests = [
        Request(TWICE, handle=10, address="ipc:///a", alternatives=2),
        Request(TWICE, handle=11, address=""),
        Request(TWICE, handle=12, address="ipc:///b", alternatives=5),
        Request(TWICE, handle=13, address="ipc:///a"),
    ]
    assignments = [slots.add(slot, request.payload(), 1.0, []) for slot, request in enumerate(requests)]
    layout, destinations = slots.layout([one.at(row) for row, one in enumerate(assignments)], 4)
    assert destinations.handles.tolist() == [10, 11, 12, 13]
    assert {address: rows.tolist() for address, rows in destinations.rows_of.items()} == {
        "ipc:///a": [0, 3],
        "ipc:///b": [2],
    }
    assert np.array_equal(destinations.detailed, [0, 2])
    assert layout.detailed is not None
    assert (layout.detailed.tolist(), layout.alternatives) == ([0, 2], 5)


def test_requests_with_the_same_program_share_it() -> None:
    slots = RequestSlots(3, SIZE, CPU)
    programs = [TWICE, numbered(5), TWICE]
    rows = [slots.add(slot, Request(program).payload(), 1.0, []).at(slot) for slot, program in enumerate(programs)]
    program = slots.layout(rows, 3)[0].turns[0].program
    assert program[0] == program[2] != program[1]


def test_programs_in_use_are_retained_however_many_others_come_and_go() -> None:
    """One request runs on while more programs come and go than are retained; each program masks its own token."""
    slots = RequestSlots(3, SIZE, CPU)
    lasting = slots.add(0, Request(numbered(300), handle=1).payload(), 1.0, [])
    for number in range(2 * MAX_TABLES):
        passing = slots.add(1, Request(numbered(number), handle=2 + number).payload(), 1.0, [])
        _, changed = evaluate(slots, [passing, lasting], [[], []])
        assert torch.isneginf(changed).nonzero().tolist() == [[0, number], [1, 300]]
        slots.remove(1)


def test_an_evicted_program_is_loaded_again() -> None:
    slots = RequestSlots(2, SIZE, CPU)
    for number in [*range(2 * MAX_TABLES), 0]:
        assignment = slots.add(0, Request(numbered(number), handle=number).payload(), 1.0, [])
        _, changed = evaluate(slots, [assignment], [[]])
        assert torch.isneginf(changed).nonzero().tolist() == [[0, number]]
        slots.remove(0)


def test_programs_are_bounded_in_bytes_save_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was requested the longest ago goes first; a running request's program stays, and is loaded once."""
    slots, loaded = RequestSlots(8, SIZE, CPU), list[int]()
    unpack = Program.unpack

    def counting(data: bytes) -> Program:
        program = unpack(data)
        loaded.append(program.rules[0].target.tokens[0])
        return program

    monkeypatch.setattr(Program, "unpack", staticmethod(counting))
    slots.add(0, Request(numbered(300), handle=1).payload(), 1.0, [])
    size_bytes = next(iter(slots._programs.values())).size_bytes
    monkeypatch.setattr("forkpoint_policies.worker.request_slots.MAX_PROGRAM_BYTES", 3 * size_bytes)
    for handle, number in enumerate([1, 2, 3, 1, 2, 3, 300], 2):
        slots.add(1, Request(numbered(number), handle=handle).payload(), 1.0, [])
        slots.remove(1)
    assert loaded == [300, 1, 2, 3, 1, 2, 3]
    for slot in range(1, 5):
        slots.add(slot, Request(numbered(10 + slot), handle=20 + slot).payload(), 1.0, [])
    rows = [slots.get(slot) for slot in range(5)]
    evaluate(slots, [row for row in rows if row is not None], [[]] * 5)
    for slot in range(5):
        slots.remove(slot)
    slots.add(1, Request(numbered(20), handle=30).payload(), 1.0, [])
    assert sum(one.size_bytes for one in slots._programs.values()) <= 3 * size_bytes


def test_the_size_of_a_program_is_about_what_it_takes() -> None:
    """An automaton as of a large vocabulary; measured as the memory that unpacking it allocates."""
    moves = [(300 + number % 700, 1000 + number, 301 + number % 700) for number in range(10_000)]
    tails = [(1000 + number, 300 + number % 700) for number in range(4_000)]
    packed = msgspec.structs.replace(TWICE, moves=moves, tails=tails).pack()
    tracemalloc.start()
    try:
        again = Program.unpack(packed)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert again.size_bytes == pytest.approx(taken, rel=0.3)


def test_requests_that_move_between_rows_keep_their_state() -> None:
    slots = RequestSlots(2, SIZE, CPU)
    one = slots.add(0, Request(TWICE, handle=1).payload(), 1.0, [])
    other = slots.add(1, Request(TWICE, handle=2).payload(), 1.0, tokens("x"))
    evaluate(slots, [one, other], [[], tokens("x")])
    _, changed = evaluate(slots, [other, one], [tokens("x|y"), tokens("Wa")])
    assert not torch.isneginf(changed[0, token("it")])
    assert torch.isneginf(changed[1, token("it")])
