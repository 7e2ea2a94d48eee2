"""Requests in slots for the compiled step: their programs, texts and state, in the tables of its source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.native import cpu
from forkpoint_policies.kernel.native.encode import encode_program, encode_sampled
from forkpoint_policies.kernel.native.heap import Heap
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

    cells: NDArray[np.generic]
    chances: NDArray[np.generic] | None
    history: NDArray[np.generic] | None
    sums: NDArray[np.generic] | None
    entropy_sums: NDArray[np.generic] | None


class NativeSlots:
    """The tables of all slots. `depth` is the most rows that one request has in a step.

    Raises CompilerError where the step cannot be compiled.
    """

    def __init__(self, count: int, vocabulary: int, depth: int = 1) -> None:
        cpu.load()
        self.depth, self.vocabulary = depth, vocabulary
        self.heap = Heap(np.int32, FIRST_CAPACITY)
        self.floats = Heap(np.float32, FIRST_CAPACITY >> 4)
        self.tables = cpu.Tables.empty(count, depth)
        self._programs: OrderedDict[str, Loaded] = OrderedDict()
        self._program_bytes = 0
        self._stored: dict[int, Stored] = {}
        self._removed: OrderedDict[int, Saved] = OrderedDict()

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
        self.tables.slots[slot], self.tables.seeds[slot], self.tables.temperatures[slot] = (
            numbers, payload.seed, temperature,
        )  # fmt: skip
        self._stored[slot] = Stored(payload.handle, payload.key, loaded.uses, tuple(blocks))
        return loaded.program

    def program_of(self, payload: PolicyPayload) -> Program:
        """The program of a request, decoded once."""
        return self._load(payload).program

    def remove(self, slot: int) -> None:
        """Free a slot.

        Its state is saved for a while: vLLM does not report whether the request ended or will be resumed.
        """
        request = self._stored.pop(slot, None)
        if request is None:
            return
        tables, uses, cells = self.tables, request.uses, slice(slot * self.depth, (slot + 1) * self.depth)
        self._removed[request.handle] = Saved(
            tables.cells[cells].copy(),
            tables.chances[cells].copy() if uses & c.USES_CHANCES else None,
            tables.history[slot].copy() if uses & c.USES_HISTORY else None,
            tables.sums[slot].copy() if uses & c.USES_WINDOW else None,
            tables.entropy_sums[slot].copy() if uses & c.USES_ENTROPIES else None,
        )
        while len(self._removed) > MAX_PREEMPTED:
            self._removed.popitem(last=False)
        for block in request.blocks:
            self.heap.release(block)
        tables.slots[slot] = c.NONE

    def step(self, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
        """Apply each row's program to the [rows, vocabulary] logits, in place."""
        return cpu.step(self.heap.values, self.floats.values, self.tables, self.depth, batch, logits, alternatives)

    def _start(self, slot: int, payload: PolicyPayload, loaded: Loaded, generated: Sequence[int]) -> None:
        """The state at the first position that will be evaluated."""
        word_state, region = payload.word_state, payload.region
        if generated:
            word_state, region = loaded.program.follow(generated, word_state, region)
        position = payload.num_shared_tokens + len(generated)
        tables, rules, uses = self.tables, len(loaded.program.rules), loaded.uses
        cells = slice(slot * self.depth, (slot + 1) * self.depth)
        saved = self._removed.pop(payload.handle, None)
        if saved is not None and int(saved.cells[0, c.POSITION]) <= position:
            for table, rows, values in (
                (tables.cells, cells, saved.cells), (tables.chances, cells, saved.chances),
                (tables.history, slot, saved.history), (tables.sums, slot, saved.sums),
                (tables.entropy_sums, slot, saved.entropy_sums),
            ):  # fmt: skip
                if values is not None:
                    table[rows] = values
            return
        inherited, cell = payload.inherited, tables.cells[cells]
        cell.fill(0)
        cell[:, c.POSITION], cell[:, c.WORD_STATE], cell[:, c.IN_REGION] = position, word_state, region
        cell[:, c.TEXT_RULE] = cell[:, c.TEXT_PENDING] = c.NONE
        if inherited is not None:
            cell[:, c.FIRED : c.FIRED + rules] = inherited.fired
            cell[:, c.CONNECTOR : c.CONNECTOR + rules] = inherited.connector
            cell[:, c.AFTER_PREVIOUS] = sum(1 << rule for rule, yes in enumerate(inherited.previous) if yes)
        if uses & c.USES_CHANCES:
            chances = tables.chances[cells]
            chances.fill(0)
            if inherited is not None:
                chances[:, c.HELD : c.HELD + rules] = inherited.held
                chances[:, c.PLACED : c.PLACED + rules] = inherited.placed
        if uses & c.USES_HISTORY:
            tables.history[slot] = 0 if inherited is None else np.frombuffer(inherited.history, np.int32)
        if uses & c.USES_WINDOW:
            tables.sums[slot] = moved_sums(b"" if inherited is None else inherited.sums, position)
        if uses & c.USES_ENTROPIES:
            tables.entropy_sums[slot] = moved_sums(b"" if inherited is None else inherited.entropy_sums, position)

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
