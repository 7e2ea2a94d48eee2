"""Requests in slots: added, preempted, resumed and removed, with programs on the device while they are in use."""

from __future__ import annotations

import tracemalloc

import msgspec
import pytest
import torch
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.worker.compiled_slots import CompiledSlots
from forkpoint_policies.worker.native_slots import Loaded
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.torch_slots import MAX_TABLES, TorchSlots, _LoadedProgram
from tests.unit.policies.factories import CPU, Record, Request, compiled, fired, policy, random_logits, rule, step
from tests.unit.policies.kernel.native.block_kernels import slots_of_blocks
from tests.unit.policies.vocabularies import END_THINK, SIZE, token, tokens

WAIT, COOL = {"words": ["wait"]}, rule({"region": "answer"}, temperature=2.0)
ALWAYS = compiled(policy(rule(suppress=WAIT), COOL))
TWICE = compiled(policy(rule({"at_most": 2}, suppress=WAIT), COOL))
LOGITS = random_logits(SIZE)


@pytest.fixture(params=["compiled", "block", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv(KERNEL_VARIABLE, "torch" if name == "torch" else "compiled")
    if name == "block":
        monkeypatch.setattr("forkpoint_policies.worker.policy_slots.slots_of_step", slots_of_blocks)
    return name


def evaluate(slots: PolicySlots, rows: list[int], generated: list[list[int]]) -> tuple[Record, Tensor]:
    """One step of the requests in these slots and no others, on the same logits."""
    changed = LOGITS.repeat(len(rows), 1)
    last = [one[-1] if one else 0 for one in generated]
    return step(slots, rows, [len(one) for one in generated], last, changed), changed


def sizes(slots: CompiledSlots | TorchSlots) -> int:
    """The bytes of all programs that are loaded."""
    own = slots.native if isinstance(slots, CompiledSlots) else slots
    programs: list[_LoadedProgram | Loaded] = [*own._programs.values()]
    return sum(one.size_bytes for one in programs)


def numbered(number: int) -> Program:
    """One of many different programs."""
    return compiled(policy(rule(suppress={"token_ids": [number]})))


def test_a_request_starts_where_its_prompt_ends() -> None:
    slots = PolicySlots(4, SIZE, CPU)
    state, _ = TWICE.follow(tokens("Wa"))
    slots.add(2, Request(ALWAYS, word_state=state, region=Region.ANSWER).payload(), 1.0, [])
    record, changed = evaluate(slots, [2], [[]])
    assert record.position.tolist() == [0]
    assert torch.isneginf(changed[0, token("it")]), "it would complete a word that the prompt has begun"
    assert fired(record) == [0, 1], "the second rule is for answers"


def test_a_resumed_request_is_where_it_was() -> None:
    """After a preemption its tokens are sent again; the state must be that of a request that was never interrupted."""
    generated = [*tokens("so|, wait"), END_THINK, *tokens(" |W|a")]
    slots, other = PolicySlots(4, SIZE, CPU), PolicySlots(4, SIZE, CPU)
    slots.add(0, Request(ALWAYS).payload(), 1.0, [])
    for position in range(len(generated) + 1):
        record, changed = evaluate(slots, [0], [generated[:position]])
    other.add(3, Request(ALWAYS).payload(), 1.0, generated)
    again, same = evaluate(other, [3], [generated])
    assert torch.equal(changed, same)
    assert torch.isneginf(same[0, token("it")])
    assert fired(record) == fired(again) == [0, 1]
    assert torch.equal(record.numbers, again.numbers)


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("committed", [0, 1])
def test_at_most_survives_a_preemption(committed: int, removed: bool) -> None:
    """What fired at the last position counts only if its token was committed. V2 does not report a preemption."""
    slots, generated = PolicySlots(4, SIZE, CPU), tokens("a|b|c")
    slots.add(0, Request(TWICE, handle=7).payload(), 1.0, [])
    assert [fired(evaluate(slots, [0], [generated[:position]])[0]) for position in (0, 1)] == [[0], [0]]
    if removed:
        slots.remove(0)
    slots.add(0 if removed else 2, Request(TWICE, handle=8).payload(), 1.0, [])
    assert fired(evaluate(slots, [0 if removed else 2], [[]])[0]) == [0], "another request starts anew"
    slots.add(1, Request(TWICE, handle=7).payload(), 1.0, generated[: 1 + committed])
    expected: list[list[int]] = [[], []] if committed else [[0], []]
    record, _ = evaluate(slots, [1], [generated[: 1 + committed]])
    after, _ = evaluate(slots, [1], [generated[: 2 + committed]])
    assert [fired(record), fired(after)] == expected


def test_a_new_request_of_another_handle_has_no_counts() -> None:
    slots = PolicySlots(1, SIZE, CPU)
    for handle in (1, 2, 3):
        slots.add(0, Request(TWICE, handle=handle).payload(), 1.0, [])
        seen = [fired(evaluate(slots, [0], [tokens("a|b|c")[:position]])[0]) for position in range(4)]
        assert seen == [[0], [0], [], []]
        slots.remove(0)


@pytest.mark.parametrize(("temperature", "greedy"), [(0.0, True), (1e-6, True), (1e-4, False), (1.0, False)])
def test_greedy_is_what_vllm_takes_for_it(temperature: float, greedy: bool) -> None:
    slots = PolicySlots(1, SIZE, CPU)
    request = slots.add(0, Request(compiled(policy(rule(temperature=2.0)))).payload(), temperature, [])
    assert request.temperature == (0.0 if greedy else temperature)
    record, _ = evaluate(slots, [0], [[]])
    effect = float(record.numbers[0, 4])
    assert (effect == 0.0) == greedy or temperature < 1e-3, "a greedy request takes the same token at any temperature"


def test_records_go_to_the_addresses_of_their_requests() -> None:
    slots = PolicySlots(5, SIZE, CPU)
    requests = [
        Request(TWICE, handle=10, address="ipc:///a", alternatives=2),
        Request(TWICE, handle=11, address=""),
        Request(TWICE, handle=12, address="ipc:///b", alternatives=5),
        Request(TWICE, handle=13, address="ipc:///a"),
    ]
    for slot, request in enumerate(requests):
        slots.add(slot, request.payload(), 1.0, [])
    positions, prompt_lens = torch.full((4,), -1), torch.zeros(5, dtype=torch.int32)
    batch = Batch(torch.arange(4, dtype=torch.int32), positions, torch.zeros(4, dtype=torch.int64), prompt_lens)
    record = slots.step(batch, LOGITS.repeat(4, 1))
    assert record.rows[:, c.R_HANDLE].tolist() == [10, 11, 12, 13]
    numbers = record.rows[:, c.R_ADDRESS].tolist()
    assert [slots.addresses[number].endpoint if number != c.NONE else "" for number in numbers] == [
        "ipc:///a", "", "ipc:///b", "ipc:///a"
    ]  # fmt: skip
    assert (record.likeliest >= 0).sum(dim=1).tolist() == [2, 0, 5, 0]


def test_programs_in_use_are_retained_however_many_others_come_and_go() -> None:
    """One request runs on while more programs come and go than are retained; each program masks its own token."""
    slots = PolicySlots(3, SIZE, CPU)
    slots.add(0, Request(numbered(300), handle=1).payload(), 1.0, [])
    for number in range(2 * MAX_TABLES):
        slots.add(1, Request(numbered(number), handle=2 + number).payload(), 1.0, [])
        _, changed = evaluate(slots, [1, 0], [[], []])
        assert torch.isneginf(changed).nonzero().tolist() == [[0, number], [1, 300]]
        slots.remove(1)


def test_an_evicted_program_is_loaded_again() -> None:
    slots = PolicySlots(2, SIZE, CPU)
    for number in [*range(2 * MAX_TABLES), 0]:
        slots.add(0, Request(numbered(number), handle=number).payload(), 1.0, [])
        _, changed = evaluate(slots, [0], [[]])
        assert torch.isneginf(changed).nonzero().tolist() == [[0, number]]
        slots.remove(0)


def test_programs_are_bounded_in_bytes_save_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was requested the longest ago goes first; a running request's program stays, and is loaded once."""
    slots, loaded = PolicySlots(8, SIZE, CPU), list[int]()
    unpack = Program.unpack

    def counting(data: bytes) -> Program:
        program = unpack(data)
        loaded.append(program.rules[0].target.tokens[0])
        return program

    monkeypatch.setattr(Program, "unpack", staticmethod(counting))
    slots.add(0, Request(numbered(300), handle=1).payload(), 1.0, [])
    size_bytes = sizes(slots.slots)
    module = "torch_slots" if isinstance(slots.slots, TorchSlots) else "native_slots"
    monkeypatch.setattr(f"forkpoint_policies.worker.{module}.MAX_PROGRAM_BYTES", 3 * size_bytes)
    for handle, number in enumerate([1, 2, 3, 1, 2, 3, 300], 2):
        slots.add(1, Request(numbered(number), handle=handle).payload(), 1.0, [])
        slots.remove(1)
    assert loaded == [300, 1, 2, 3, 1, 2, 3]
    for slot in range(1, 5):
        slots.add(slot, Request(numbered(10 + slot), handle=20 + slot).payload(), 1.0, [])
    evaluate(slots, list(range(5)), [[]] * 5)
    for slot in range(5):
        slots.remove(slot)
    slots.add(1, Request(numbered(20), handle=30).payload(), 1.0, [])
    assert sizes(slots.slots) <= 3 * size_bytes


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
    slots = PolicySlots(2, SIZE, CPU)
    slots.add(0, Request(TWICE, handle=1).payload(), 1.0, [])
    slots.add(1, Request(TWICE, handle=2).payload(), 1.0, tokens("x"))
    evaluate(slots, [0, 1], [[], tokens("x")])
    _, changed = evaluate(slots, [1, 0], [tokens("x|y"), tokens("Wa")])
    assert not torch.isneginf(changed[0, token("it")])
    assert torch.isneginf(changed[1, token("it")])
