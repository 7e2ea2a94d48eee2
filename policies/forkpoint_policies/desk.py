"""Who is being worked on: requests to slots and programs, and the layout of the batch. Host-side, shared by both adapters."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .instruction import Instruction
from .kernel import Layout, build_layout
from .program import Program
from .slots import Slots
from .tables import Moves, Rules, build_moves, build_rules
from .telemetry import Destinations

MOST_PREEMPTED = 4096
MOST_IDLE_PROGRAMS = 64
GREEDY_BELOW = 1e-5  # vLLM takes the likeliest token below this temperature


@dataclass(frozen=True)
class Assignment:
    """A request in a slot. `temperature` is 0 for a request that takes the likeliest token."""

    slot: int
    instruction: Instruction
    temperature: float


class Desk:
    """Assigns slots and keeps programs on the device; `layout` is rebuilt only when the batch changes."""

    def __init__(self, slots: int, vocabulary: int, device: torch.device) -> None:
        self.slots = Slots.allocate(slots, device)
        self._device = device
        self._vocabulary = vocabulary
        self._programs: OrderedDict[str, Program] = OrderedDict()
        self._tables: tuple[dict[str, int], list[Program], Rules, Moves | None] | None = None
        self._in_use: dict[int, Assignment] = {}
        self._preempted: OrderedDict[int, tuple[Tensor, Tensor, Tensor]] = OrderedDict()

    def admit(self, slot: int, instruction: Instruction, temperature: float, generated: list[int]) -> Assignment:
        """Take a request into a slot; `generated` are its tokens so far, more than none when it was preempted before."""
        program = self._program(instruction)
        word_state, in_reasoning = program.follow(generated, instruction.word_state, instruction.in_reasoning)
        self.slots.start(slot, len(generated), word_state, in_reasoning)
        counts = self._preempted.pop(instruction.handle, None)
        if counts is not None:
            self.slots.restore_counts(slot, len(generated), counts)
        temperature = 0.0 if temperature < GREEDY_BELOW else temperature
        assignment = Assignment(slot, instruction, temperature)
        self._in_use[slot] = assignment
        return assignment

    def dismiss(self, slot: int) -> None:
        """Free a slot. Its counts are kept for a while: vLLM does not tell whether the request ended or will be resumed."""
        assignment = self._in_use.pop(slot)
        self._preempted[assignment.instruction.handle] = self.slots.counts(slot)
        while len(self._preempted) > MOST_PREEMPTED:
            self._preempted.popitem(last=False)

    def layout(self, rows: list[int], total_rows: int, assignments: list[Assignment]) -> tuple[Layout, Destinations]:
        """The layout of a batch in which these rows hold these assignments, and where their records go."""
        indices, table, rules, moves = self._on_device()
        layout = build_layout(
            rows=rows,
            total_rows=total_rows,
            slots=[assignment.slot for assignment in assignments],
            programs=[indices[assignment.instruction.key] for assignment in assignments],
            temperatures=[assignment.temperature for assignment in assignments],
            details=[assignment.instruction.alternatives > 0 for assignment in assignments],
            table=table,
            rules=rules,
            moves=moves,
            alternatives=max((assignment.instruction.alternatives for assignment in assignments), default=0),
        )
        return layout, _destinations(assignments)

    def _program(self, instruction: Instruction) -> Program:
        program = self._programs.get(instruction.key)
        if program is None:
            program = self._programs[instruction.key] = Program.unpack(instruction.program)
            self._tables = None
        self._programs.move_to_end(instruction.key)
        return program

    def _on_device(self) -> tuple[dict[str, int], list[Program], Rules, Moves | None]:
        if self._tables is None:
            used = {assignment.instruction.key for assignment in self._in_use.values()}
            for key in list(self._programs):
                if len(self._programs) <= len(used) + MOST_IDLE_PROGRAMS:
                    break
                if key not in used:
                    del self._programs[key]
            table = list(self._programs.values())
            indices = {key: number for number, key in enumerate(self._programs)}
            self._tables = (indices, table, build_rules(table, self._device), build_moves(table, self._vocabulary, self._device))
        return self._tables


def _destinations(assignments: list[Assignment]) -> Destinations:
    rows_of: dict[str, list[int]] = {}
    for row, assignment in enumerate(assignments):
        if assignment.instruction.address:
            rows_of.setdefault(assignment.instruction.address, []).append(row)
    detailed = [row for row, assignment in enumerate(assignments) if assignment.instruction.alternatives > 0]
    return Destinations(
        handles=torch.tensor([assignment.instruction.handle for assignment in assignments], dtype=torch.int32),
        rows_of={address: np.array(rows) for address, rows in rows_of.items()},
        detailed=np.array(detailed, np.int32),
    )
