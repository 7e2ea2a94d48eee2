"""Requests in slots, their programs on the device, and the layout of a batch. On the host, shared by both adapters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.batch import Layout, SlotRow, build_layout
from forkpoint_policies.kernel.device_tables import (
    ProgramTables,
    Tables,
    Uses,
    build_program_tables,
    join_tables,
)
from forkpoint_policies.kernel.state import Slots, State

from .payload import PolicyPayload
from .sender import Destinations

MAX_PREEMPTED = 1024
MAX_TABLES = 16
MAX_TABLE_BYTES = 1 << 28
"""Of the cached tables of sets of programs; those of the batch that runs are not limited."""
MAX_PROGRAM_BYTES = 1 << 28
"""Of the cached programs, on host and device together; those of running requests are not limited."""
GREEDY_BELOW = 1e-5  # vLLM takes the likeliest token below this temperature


class RequestSlots:
    """Assigns slots and keeps programs on the device. `depth` is the most rows that one request has in a step."""

    def __init__(self, slots: int, vocabulary: int, device: torch.device, depth: int = 1) -> None:
        self.slots = Slots(slots, depth, device)
        self._device = device
        self._vocabulary = vocabulary
        self._programs: OrderedDict[str, _LoadedProgram] = OrderedDict()
        self._tables: OrderedDict[tuple[str, ...], Tables] = OrderedDict()
        self._in_use: dict[int, SlotRow] = {}
        self._removed: OrderedDict[int, State] = OrderedDict()

    def add(self, slot: int, payload: PolicyPayload, temperature: float, generated: Sequence[int]) -> SlotRow:
        """Put a request into a slot; `generated` are its tokens so far: none unless it was preempted before."""
        # V2 does not report a preemption: the request is added again, perhaps to another slot
        before = next((used for used, row in self._in_use.items() if row.handle == payload.handle), slot)
        for stale in {slot, before}:
            self.remove(stale)
        loaded = self._program(payload)
        program = loaded.program
        saved = self._removed.pop(payload.handle, None)
        word_state, region = payload.word_state, payload.region
        if generated:
            word_state, region = program.follow(generated, word_state, region)
        position = payload.num_shared_tokens + len(generated)
        self.slots.start(slot, position, word_state, region)
        if saved is not None and int(saved.core.position[0]) <= position:
            self.slots.restore(slot, saved)
        elif payload.inherited is not None:
            self.slots.inherit(slot, payload.inherited)
        request = SlotRow(
            slot=slot,
            key=payload.key,
            program=program,
            uses=loaded.uses,
            temperature=0.0 if temperature < GREEDY_BELOW else temperature,
            seed=payload.seed,
            sampled=payload.sampled,
            num_shared_tokens=payload.num_shared_tokens,
            forced_tokens=payload.forced_tokens,
            handle=payload.handle,
            address=payload.address,
            alternatives=payload.alternatives,
            limits=payload.limits,
        )
        self._in_use[slot] = request
        return request

    def remove(self, slot: int) -> None:
        """Free a slot.

        Its state is saved for a while: vLLM does not report whether the request ended or will be resumed.
        """
        request = self._in_use.pop(slot, None)
        if request is None:
            return
        self._removed[request.handle] = self.slots.copy_of(slot, request.uses)
        while len(self._removed) > MAX_PREEMPTED:
            self._removed.popitem(last=False)

    def get(self, slot: int) -> SlotRow | None:
        """The request in a slot."""
        return self._in_use.get(slot)

    def layout(self, rows: Sequence[SlotRow], total_rows: int) -> tuple[Layout, Destinations]:
        """The layout of a batch of `total_rows` in which these rows have a policy, and where their records go."""
        keys = tuple(sorted({row.key for row in rows}))
        tables = self._tables_of(keys)
        layout = build_layout(rows, total_rows, tables, keys, self.slots.depth, self._vocabulary)
        return layout, Destinations.of(rows, self._vocabulary, self._device)

    def _program(self, payload: PolicyPayload) -> _LoadedProgram:
        """The program of a request, cached by key."""
        known = self._programs.pop(payload.key, None)
        if known is None:
            known = _LoadedProgram.of(Program.unpack(payload.program), self._vocabulary, self._device)
        self._programs[payload.key] = known
        self._evict_programs({payload.key, *(row.key for row in self._in_use.values())})
        return known

    def _evict_programs(self, in_use: Set[str]) -> None:
        """Drop the programs that were requested the longest ago, as long as they are too many bytes together."""
        size_bytes = sum(one.size_bytes for one in self._programs.values())
        for key in [key for key in self._programs if key not in in_use]:
            if size_bytes <= MAX_PROGRAM_BYTES:
                return
            size_bytes -= self._programs.pop(key).size_bytes

    def _tables_of(self, keys: tuple[str, ...]) -> Tables:
        tables = self._tables.pop(keys, None)
        if tables is None:
            loaded = [self._programs[key] for key in keys]
            tables = join_tables([one.program for one in loaded], [one.tables for one in loaded], self._vocabulary)
        self._tables[keys] = tables
        while len(self._tables) > MAX_TABLES or (
            len(self._tables) > 1 and sum(one.size_bytes for one in self._tables.values()) > MAX_TABLE_BYTES
        ):
            self._tables.popitem(last=False)
        return tables


@dataclass(frozen=True)
class _LoadedProgram:
    """A program, the parts of the language that it uses, and its tables on the device."""

    program: Program
    uses: Uses
    tables: ProgramTables
    size_bytes: int

    @staticmethod
    def of(program: Program, vocabulary: int, device: torch.device) -> _LoadedProgram:
        tables = build_program_tables(program, vocabulary, device)
        return _LoadedProgram(program, Uses.of([program]), tables, program.size_bytes + tables.size_bytes)
