"""Requests in slots for the step in torch's operations: their programs on the device, and the layout of a batch.

It is slower than the compiled step, and needs no compiler.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.batch import Layout, SlotRow, build_layout
from forkpoint_policies.kernel.device_tables import (
    ProgramTables,
    Tables,
    build_program_tables,
    join_tables,
)
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.program_uses import Uses
from forkpoint_policies.kernel.record_flags import DRAFT
from forkpoint_policies.kernel.signals import warm_up
from forkpoint_policies.kernel.state import Slots, State
from forkpoint_policies.kernel.step import Record, Rows, step
from forkpoint_policies.kernel.step_types import Batch, StepRecord

from .payload import PolicyPayload

MAX_PREEMPTED = 1024
MAX_TABLES = 16
MAX_TABLE_BYTES = 1 << 28
"""Of the cached tables of sets of programs; those of the batch that runs are not limited."""
MAX_PROGRAM_BYTES = 1 << 28
"""Of the cached programs, on host and device together; those of running requests are not limited."""


class TorchSlots:
    """Keeps programs on the device. `depth` is the most rows that one request has in a step."""

    def __init__(self, slots: int, vocabulary: int, device: torch.device, depth: int = 1) -> None:
        self.slots = Slots(slots, depth, device)
        self._device = device
        self._vocabulary = vocabulary
        self._programs: OrderedDict[str, _LoadedProgram] = OrderedDict()
        self._tables: OrderedDict[tuple[str, ...], Tables] = OrderedDict()
        self._in_use: dict[int, SlotRow] = {}
        warm_up(device.type)
        self._addresses: dict[int, int] = {}  # by slot
        self._batch: tuple[bytes, list[SlotRow], Layout] | None = None
        self._removed: OrderedDict[int, State] = OrderedDict()

    def add(
        self, slot: int, payload: PolicyPayload, temperature: float, generated: Sequence[int], address: int
    ) -> Program:
        """Put a request into an empty slot; its program. `address` is the number of where its records go."""
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
            temperature=temperature,
            seed=payload.seed,
            sampled=payload.sampled,
            num_shared_tokens=payload.num_shared_tokens,
            forced_tokens=payload.forced_tokens,
            handle=payload.handle,
            alternatives=payload.alternatives,
            limits=payload.limits,
        )
        self._in_use[slot], self._addresses[slot] = request, address
        self._batch = None
        return program

    def remove(self, slot: int) -> None:
        """Free a slot.

        Its state is saved for a while: vLLM does not report whether the request ended or will be resumed.
        """
        request = self._in_use.pop(slot, None)
        if request is None:
            return
        self._batch = None
        self._removed[request.handle] = self.slots.copy_of(slot, request.uses)
        while len(self._removed) > MAX_PREEMPTED:
            self._removed.popitem(last=False)

    def step(self, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
        """Apply each row's program to the [rows, vocabulary] logits, in place."""
        rows, layout = self._laid_out(batch.host_slots)
        chosen = [row.row for row in rows]
        positions, last_tokens, hidden = batch.positions, batch.last_tokens, batch.hidden
        if layout.rows is not None:
            positions, last_tokens = positions.index_select(0, layout.rows), last_tokens.index_select(0, layout.rows)
            hidden = None if hidden is None else hidden.index_select(0, layout.rows)
        # negative while a prompt is computed in pieces; the step takes that for the first position
        generated = positions.long() + 1 - batch.prompt_lens[layout.slot].long()
        record = step(self.slots, Rows(layout, generated, last_tokens.long(), hidden), logits)
        return self._record(record, rows, chosen, len(logits), alternatives)

    def layout(self, rows: Sequence[SlotRow], total_rows: int) -> Layout:
        """The layout of a batch of `total_rows` in which these rows have a policy."""
        keys = tuple(sorted({row.key for row in rows}))
        return build_layout(rows, total_rows, self._tables_of(keys), keys, self.slots.depth, self._vocabulary)

    def row(self, slot: int, row: int, offset: int = 0) -> SlotRow:
        """A row of the request in a slot; `offset` is how many draft tokens it comes after."""
        return self._in_use[slot].at(row, offset)

    def _laid_out(self, slots: NDArray[np.int32]) -> tuple[list[SlotRow], Layout]:
        """The rows that have a policy, and their layout: made anew only when the batch has changed."""
        key = slots.tobytes()
        if self._batch is None or self._batch[0] != key:
            rows, before, offset = list[SlotRow](), c.NONE, 0
            for row, slot in enumerate(slots.tolist()):
                offset = offset + 1 if slot == before else 0
                if slot in self._in_use:
                    rows.append(self.row(slot, row, offset))
                before = slot
            self._batch = key, rows, self.layout(rows, len(slots))
        return self._batch[1], self._batch[2]

    def _record(
        self, found: Record, rows: Sequence[SlotRow], chosen: Sequence[int], total_rows: int, alternatives: int
    ) -> StepRecord:
        """The record of a step by rows of the logits, in the columns of the compiled step."""
        device = found.position.device
        handles = torch.tensor([[row.handle, self._addresses[row.slot], DRAFT * (row.offset > 0)] for row in rows]).to(
            device
        )
        own = torch.zeros(len(rows), c.RECORD_COLUMNS, dtype=torch.int32, device=device)
        own[:, c.R_HANDLE], own[:, c.R_ADDRESS] = handles[:, 0], handles[:, 1]
        own[:, c.R_POSITION], own[:, c.R_LAST_TOKEN] = found.position, found.last_token
        own[:, c.R_FLAGS] = found.flags | handles[:, 2]
        floats = own.view(torch.float32)
        floats[:, c.R_ENTROPY : c.R_EFFECT + found.num_rules] = found.numbers
        if found.inherited is not None:
            held, placed = found.inherited[:, 1:].view(len(rows), 2, -1).unbind(1)
            floats[:, c.R_CONFIDENCE] = found.inherited[:, 0]
            floats[:, c.R_HELD : c.R_HELD + found.num_rules] = held
            floats[:, c.R_PLACED : c.R_PLACED + found.num_rules] = placed
        record = StepRecord.empty(total_rows, alternatives, device)
        record.whole.fill_(c.NONE)
        record.probabilities.zero_()
        record.certainty.zero_()
        record.rows[torch.tensor(chosen, device=device)] = own
        detailed = torch.tensor([row.row for row in rows if row.alternatives > 0], device=device)
        counts = torch.tensor([row.alternatives for row in rows if row.alternatives > 0], device=device)
        if found.alternatives is not None and found.probabilities is not None:
            count = found.alternatives.shape[1]
            wanted = torch.arange(count, device=device) < counts[:, None]
            record.likeliest[detailed, :count] = torch.where(wanted, found.alternatives, c.NONE).int()
            record.probabilities[detailed, :count] = found.probabilities
            if found.certainty is not None:
                record.certainty[detailed] = found.certainty
        return record

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
