"""Requests in slots for the compiled step: their programs, texts and state, in the tables of its source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.native import cpu
from forkpoint_policies.kernel.native.encode import encode_program, encode_sampled
from forkpoint_policies.kernel.native.heap import Heap
from forkpoint_policies.kernel.state_handover import HISTORY_BINS
from forkpoint_policies.kernel.step_types import Batch, StepRecord
from forkpoint_policies.spec import MAX_WINDOW

from .payload import PolicyPayload

MAX_PREEMPTED = 1024
MAX_PROGRAM_BYTES = 1 << 28
"""Of the programs on the device; those of running requests are not limited."""
FIRST_CAPACITY = 1 << 20


@dataclass(frozen=True)
class Stored:
    """What a request in a slot has on the device."""

    handle: int
    key: str
    uses: int
    blocks: tuple[int, ...]  # in the heap, its own


@dataclass(frozen=True)
class Loaded:
    """A program on the device."""

    program: Program
    ints: int  # offset in the heap
    floats: int
    uses: int
    size_bytes: int


@dataclass(frozen=True)
class Saved:
    """The state of a request that was removed: it may be resumed."""

    cells: Tensor
    chances: Tensor | None
    history: Tensor | None
    sums: Tensor | None
    entropy_sums: Tensor | None


class NativeSlots:
    """The tables of all slots. `depth` is the most rows that one request has in a step.

    Raises CompilerError where the step cannot be compiled.
    """

    def __init__(self, count: int, vocabulary: int, device: torch.device, depth: int = 1) -> None:
        cpu.load()
        self.device, self.depth, self.vocabulary, self.count = device, depth, vocabulary, count
        self.heap = Heap(torch.int32, device, FIRST_CAPACITY)
        self.floats = Heap(torch.float32, device, FIRST_CAPACITY >> 4)
        self.slots = torch.full((count, c.SLOT_INTS), c.NONE, dtype=torch.int32, device=device)
        self.seeds = torch.zeros(count, dtype=torch.int64, device=device)
        self.temperatures = torch.zeros(count, dtype=torch.float32, device=device)
        self.cells = torch.zeros(count * depth, c.CELL_INTS, dtype=torch.int32, device=device)
        self.chances = torch.zeros(count * depth, c.CELL_FLOATS, device=device)
        self.history = torch.zeros(count, HISTORY_BINS, dtype=torch.int32, device=device)
        self.sums = torch.zeros(count, c.SUMS, dtype=torch.float64, device=device)
        self.entropy_sums = torch.zeros(count, c.SUMS, dtype=torch.float64, device=device)
        self._programs: OrderedDict[str, Loaded] = OrderedDict()
        self._program_bytes = 0
        self._stored: dict[int, Stored] = {}
        self._removed: OrderedDict[int, Saved] = OrderedDict()
        self._staged: dict[int, tuple[list[int], int, float]] = {}  # slot -> numbers, seed, temperature

    def add(
        self, slot: int, payload: PolicyPayload, temperature: float, generated: Sequence[int], address: int
    ) -> Program:
        """Put a request into an empty slot; its program. `address` is the number of where its records go."""
        loaded = self._load(payload)
        numbers, blocks = [0] * c.SLOT_INTS, list[int]()
        numbers[c.PROGRAM], numbers[c.PROGRAM_FLOATS] = loaded.ints, loaded.floats
        numbers[c.HANDLE], numbers[c.ADDRESS] = payload.handle, address
        numbers[c.ALTERNATIVES], numbers[c.NUM_SHARED] = payload.alternatives, payload.num_shared_tokens
        numbers[c.SAMPLED] = numbers[c.FORCED] = c.NONE
        limits = np.array([payload.limits.top_p, payload.limits.min_p], np.float32).view(np.int32)
        numbers[c.LIMIT_TOP_K] = max(0, payload.limits.top_k)
        numbers[c.LIMIT_TOP_P], numbers[c.LIMIT_MIN_P] = limits.tolist()
        if payload.sampled:
            numbers[c.SAMPLED] = self.heap.store(encode_sampled(payload.sampled, len(loaded.program.rules)))
            blocks.append(numbers[c.SAMPLED])
        if payload.forced_tokens:
            numbers[c.FORCED] = self.heap.store(np.array(payload.forced_tokens, np.int32))
            numbers[c.NUM_FORCED] = len(payload.forced_tokens)
            blocks.append(numbers[c.FORCED])
        self._start(slot, payload, loaded, generated)
        self._staged[slot] = numbers, payload.seed, temperature
        self._stored[slot] = Stored(payload.handle, payload.key, loaded.uses, tuple(blocks))
        return loaded.program

    def remove(self, slot: int) -> None:
        """Free a slot.

        Its state is saved for a while: vLLM does not report whether the request ended or will be resumed.
        """
        request = self._stored.pop(slot, None)
        if request is None:
            return
        cells = slice(slot * self.depth, (slot + 1) * self.depth)
        self._removed[request.handle] = Saved(
            self.cells[cells].clone(),
            self.chances[cells].clone() if request.uses & c.USES_CHANCES else None,
            self.history[slot : slot + 1].clone() if request.uses & c.USES_HISTORY else None,
            self.sums[slot : slot + 1].clone() if request.uses & c.USES_WINDOW else None,
            self.entropy_sums[slot : slot + 1].clone() if request.uses & c.USES_ENTROPIES else None,
        )
        while len(self._removed) > MAX_PREEMPTED:
            self._removed.popitem(last=False)
        for block in request.blocks:
            self.heap.release(block)
        self._staged[slot] = [c.NONE] * c.SLOT_INTS, 0, 0.0

    def step(self, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
        """Apply each row's program to the [rows, vocabulary] logits, in place."""
        self.flush()
        return cpu.step(self.tables(), self.depth, batch, logits, alternatives)

    def tables(self) -> tuple[Tensor, ...]:
        """In the order of tables.h."""
        return (
            self.heap.values, self.floats.values, self.slots, self.seeds, self.temperatures, self.cells, self.chances,
            self.history, self.sums, self.entropy_sums,
        )  # fmt: skip

    def flush(self) -> None:
        """Write what was staged, without waiting for the device."""
        if not self._staged:
            return
        slots = list(self._staged)
        numbers = torch.tensor([self._staged[slot][0] for slot in slots], dtype=torch.int32)
        seeds = torch.tensor([self._staged[slot][1] for slot in slots], dtype=torch.int64)
        temperatures = torch.tensor([self._staged[slot][2] for slot in slots], dtype=torch.float32)
        index = torch.tensor(slots)
        self._staged.clear()
        for table, values in ((self.slots, numbers), (self.seeds, seeds), (self.temperatures, temperatures)):
            table[self._sent(index)] = self._sent(values)

    def _sent(self, values: Tensor) -> Tensor:
        return values.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else values

    def _start(self, slot: int, payload: PolicyPayload, loaded: Loaded, generated: Sequence[int]) -> None:
        """The state at the first position that will be evaluated."""
        word_state, region = payload.word_state, payload.region
        if generated:
            word_state, region = loaded.program.follow(generated, word_state, region)
        position = payload.num_shared_tokens + len(generated)
        cell = np.zeros((self.depth, c.CELL_INTS), np.int32)
        cell[:, c.POSITION], cell[:, c.WORD_STATE], cell[:, c.IN_REGION] = position, word_state, region
        cell[:, c.TEXT_RULE] = cell[:, c.TEXT_PENDING] = c.NONE
        saved = self._removed.pop(payload.handle, None)
        # this waits for the device, but only where a request is resumed
        if saved is not None and int(saved.cells[0, c.POSITION]) > position:
            saved = None
        inherited = payload.inherited if saved is None else None
        rules = len(loaded.program.rules)
        if inherited is not None:
            cell[:, c.FIRED : c.FIRED + rules] = inherited.fired
            cell[:, c.CONNECTOR : c.CONNECTOR + rules] = inherited.connector
            cell[:, c.AFTER_PREVIOUS] = sum(1 << rule for rule, yes in enumerate(inherited.previous) if yes)
        cells = slice(slot * self.depth, (slot + 1) * self.depth)
        self.cells[cells] = self._sent(torch.from_numpy(cell)) if saved is None else saved.cells
        if loaded.uses & c.USES_CHANCES:
            chances = np.zeros((self.depth, c.CELL_FLOATS), np.float32)
            if inherited is not None:
                chances[:, c.HELD : c.HELD + rules] = inherited.held
                chances[:, c.PLACED : c.PLACED + rules] = inherited.placed
            self._write(self.chances, cells, chances, None if saved is None else saved.chances)
        if loaded.uses & c.USES_HISTORY:
            counts = np.zeros(HISTORY_BINS, np.int32)
            if inherited is not None:
                counts = np.frombuffer(inherited.history, np.int32).copy()
            self._write(self.history, slice(slot, slot + 1), counts[None], None if saved is None else saved.history)
        if loaded.uses & c.USES_WINDOW:
            sums = moved_sums(b"" if inherited is None else inherited.sums, position)
            self._write(self.sums, slice(slot, slot + 1), sums[None], None if saved is None else saved.sums)
        if loaded.uses & c.USES_ENTROPIES:
            sums = moved_sums(b"" if inherited is None else inherited.entropy_sums, position)
            self._write(
                self.entropy_sums, slice(slot, slot + 1), sums[None], None if saved is None else saved.entropy_sums
            )

    def _write(self, table: Tensor, rows: slice, fresh: NDArray[np.generic], saved: Tensor | None) -> None:
        table[rows] = self._sent(torch.from_numpy(fresh)) if saved is None else saved

    def _load(self, payload: PolicyPayload) -> Loaded:
        """The program of a request, cached by key; those that were requested the longest ago go first."""
        known = self._programs.pop(payload.key, None)
        if known is None:
            program = Program.unpack(payload.program)
            encoded = encode_program(program, self.vocabulary)
            known = Loaded(
                program,
                self.heap.store(encoded.ints),
                self.floats.store(encoded.floats),
                int(encoded.ints[c.USES]),
                program.size_bytes + encoded.ints.nbytes + encoded.floats.nbytes,
            )
            self._program_bytes += known.size_bytes
        self._programs[payload.key] = known
        if self._program_bytes > MAX_PROGRAM_BYTES:
            self._evict({payload.key, *(request.key for request in self._stored.values())})
        return known

    def _evict(self, in_use: Set[str]) -> None:
        for key in [key for key in self._programs if key not in in_use]:
            if self._program_bytes <= MAX_PROGRAM_BYTES:
                return
            dropped = self._programs.pop(key)
            self._program_bytes -= dropped.size_bytes
            self.heap.release(dropped.ints)
            self.floats.release(dropped.floats)


def moved_sums(sums: bytes, position: int) -> NDArray[np.float64]:
    """Inherited running sums, which are at their position modulo MAX_WINDOW + 1, at theirs modulo SUMS."""
    ours = np.zeros(c.SUMS)
    if sums:
        theirs = np.frombuffer(sums, np.float64)
        at = np.arange(max(0, position - MAX_WINDOW), position + 1)
        ours[at % c.SUMS] = theirs[at % (MAX_WINDOW + 1)]
    return ours
