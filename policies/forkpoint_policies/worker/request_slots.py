"""Who is being worked on: requests to slots and programs, and the layout of the batch. Host-side, shared by both adapters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.batch import Entry, Layout, build_layout
from forkpoint_policies.kernel.device_tables import Tables, Uses, build_tables
from forkpoint_policies.kernel.state import Slots, State

from .payload import PolicyPayload
from .sender import Destinations

MAX_PREEMPTED = 1024
MAX_TABLES = 16
MAX_TABLE_BYTES = 1 << 28
"""Of the tables that are kept for batches to come; those of the batch that runs are as large as its policies are."""
GREEDY_BELOW = 1e-5  # vLLM takes the likeliest token below this temperature


@dataclass(frozen=True)
class Assignment:
    """A request in a slot. `temperature` is 0 for a request that takes the likeliest token."""

    slot: int
    instruction: PolicyPayload
    program: Program
    uses: Uses
    temperature: float


@dataclass(frozen=True)
class Seat:
    """A row of the logits, the request it belongs to, and its place among the request's rows."""

    row: int
    assignment: Assignment
    offset: int = 0


class RequestSlots:
    """Assigns slots and keeps programs on the device. `depth` is the most rows that one request has in a step."""

    def __init__(self, slots: int, vocabulary: int, device: torch.device, depth: int = 1) -> None:
        self.slots = Slots(slots, depth, device)
        self._device = device
        self._vocabulary = vocabulary
        self._programs: OrderedDict[str, tuple[Program, Uses]] = OrderedDict()
        self._tables: OrderedDict[tuple[str, ...], Tables] = OrderedDict()
        self._in_use: dict[int, Assignment] = {}
        self._left: OrderedDict[int, State] = OrderedDict()

    def admit(self, slot: int, instruction: PolicyPayload, temperature: float, generated: Sequence[int]) -> Assignment:
        """Take a request into a slot; `generated` are its tokens so far, more than none when it was preempted before."""
        # V2 does not tell that a request was preempted: it comes again, in another slot perhaps
        before = next(
            (used for used, one in self._in_use.items() if one.instruction.handle == instruction.handle), slot
        )
        for left in {slot, before}:
            self.dismiss(left)
        program, uses = self._program(instruction)
        kept = self._left.pop(instruction.handle, None)
        word_state, in_reasoning = instruction.word_state, instruction.in_reasoning
        if generated:
            word_state, in_reasoning = program.follow(generated, word_state, in_reasoning)
        position = instruction.begun + len(generated)
        self.slots.start(slot, position, word_state, in_reasoning)
        if kept is not None and int(kept.core.position[0]) <= position:
            self.slots.restore(slot, kept)
        elif instruction.inherited is not None:
            self.slots.inherit(slot, instruction.inherited)
        temperature = 0.0 if temperature < GREEDY_BELOW else temperature
        assignment = Assignment(slot, instruction, program, uses, temperature)
        self._in_use[slot] = assignment
        return assignment

    def dismiss(self, slot: int) -> None:
        """Free a slot. Its state is kept for a while: vLLM does not tell whether the request ended or will be resumed."""
        assignment = self._in_use.pop(slot, None)
        if assignment is None:
            return
        self._left[assignment.instruction.handle] = self.slots.copy_of(slot, assignment.uses)
        while len(self._left) > MAX_PREEMPTED:
            self._left.popitem(last=False)

    def at(self, slot: int) -> Assignment | None:
        """The request in a slot."""
        return self._in_use.get(slot)

    def layout(self, seats: Sequence[Seat], total_rows: int) -> tuple[Layout, Destinations]:
        """The layout of a batch of `total_rows` in which these rows have a policy, and where their records go."""
        requests = [seat.assignment for seat in seats]
        keys = tuple(sorted({request.instruction.key for request in requests}))
        place = {key: number for number, key in enumerate(keys)}
        entries = [
            Entry(
                row=seat.row,
                slot=seat.assignment.slot,
                program=place[seat.assignment.instruction.key],
                temperature=seat.assignment.temperature,
                seed=seat.assignment.instruction.seed,
                detailed=seat.assignment.instruction.alternatives > 0,
                drawn=seat.assignment.instruction.drawn,
                offset=seat.offset,
                begun=seat.assignment.instruction.begun,
                given=seat.assignment.instruction.given,
            )
            for seat in seats
        ]
        tables = self._tables_of(keys, {request.instruction.key: request.program for request in requests})
        alternatives = max((request.instruction.alternatives for request in requests), default=0)
        layout = build_layout(entries, total_rows, tables, alternatives, self.slots.depth, self._vocabulary)
        return layout, Destinations.of([request.instruction for request in requests], [seat.offset for seat in seats])

    def _program(self, instruction: PolicyPayload) -> tuple[Program, Uses]:
        """The program of a request and the parts of the language that it uses, kept while requests come with it."""
        known = self._programs.pop(instruction.key, None)
        if known is None:
            program = Program.unpack(instruction.program)
            known = program, Uses.of([program])
        self._programs[instruction.key] = known
        while len(self._programs) > MAX_TABLES * MAX_TABLES:
            self._programs.popitem(last=False)
        return known

    def _tables_of(self, keys: tuple[str, ...], programs: dict[str, Program]) -> Tables:
        tables = self._tables.pop(keys, None)
        if tables is None:
            tables = build_tables([programs[key] for key in keys], self._vocabulary, self._device)
        self._tables[keys] = tables
        while len(self._tables) > MAX_TABLES or (
            len(self._tables) > 1 and sum(one.size_bytes for one in self._tables.values()) > MAX_TABLE_BYTES
        ):
            self._tables.popitem(last=False)
        return tables
