"""Requests in slots for the compiled step: their programs, texts and state, in the tables of its source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.native.admission import Admission, State
from forkpoint_policies.kernel.native.cpu import HostTables
from forkpoint_policies.kernel.native.device import DeviceTables
from forkpoint_policies.kernel.native.encode import encode_program, encode_sampled
from forkpoint_policies.kernel.state_handover import HISTORY_BINS
from forkpoint_policies.kernel.step_types import Batch, StepRecord
from forkpoint_policies.spec import MAX_WINDOW

from .payload import PolicyPayload

MAX_PREEMPTED = 1024
MAX_PROGRAM_BYTES = 1 << 28
"""Of the programs on the device; those of running requests are not limited."""


@dataclass(frozen=True)
class Stored:
    """What a request in a slot has in the tables."""

    handle: int
    key: str
    row: int  # of its state
    blocks: tuple[int, ...]  # in the heap, its own


@dataclass(frozen=True)
class Loaded:
    """A program in the heaps."""

    program: Program
    ints: int  # offset in the heap
    floats: int
    uses: int
    size_bytes: int


class NativeSlots:
    """The requests in slots. `make` makes the tables for so many slots and states."""

    def __init__(self, count: int, vocabulary: int, make: Callable[[int, int], HostTables | DeviceTables]) -> None:
        self.vocabulary = vocabulary
        self.tables = make(count, count + MAX_PREEMPTED)
        self._free_rows = list(range(count + MAX_PREEMPTED))
        self._programs: OrderedDict[str, Loaded] = OrderedDict()
        self._program_bytes = 0
        self._stored: dict[int, Stored] = {}
        self._removed: OrderedDict[int, int] = OrderedDict()  # the rows of states, by handle

    def add(
        self, slot: int, payload: PolicyPayload, temperature: float, generated: Sequence[int], address: int
    ) -> Program:
        """Put a request into an empty slot; its program. `address` is the number of where its records go."""
        loaded, ints = self._load(payload), self.tables.ints
        numbers, blocks = [0] * c.SLOT_INTS, list[int]()
        numbers[c.PROGRAM], numbers[c.PROGRAM_FLOATS] = loaded.ints, loaded.floats
        numbers[c.HANDLE], numbers[c.ADDRESS] = payload.handle, address
        numbers[c.ALTERNATIVES], numbers[c.NUM_SHARED] = payload.alternatives, payload.num_shared_tokens
        numbers[c.SAMPLED] = numbers[c.FORCED] = c.NONE
        floats = np.array([payload.limits.top_p, payload.limits.min_p, temperature], np.float32).view(np.int32)
        numbers[c.LIMIT_TOP_K] = max(0, payload.limits.top_k)
        numbers[c.LIMIT_TOP_P], numbers[c.LIMIT_MIN_P], numbers[c.TEMPERATURE] = floats.tolist()
        numbers[c.SEED_LOW], numbers[c.SEED_HIGH] = np.array([payload.seed], np.int64).view(np.int32).tolist()
        if payload.sampled:
            numbers[c.SAMPLED] = ints.store(encode_sampled(payload.sampled, len(loaded.program.rules)))
            blocks.append(numbers[c.SAMPLED])
        if payload.forced_tokens:
            numbers[c.FORCED] = ints.store(np.array(payload.forced_tokens, np.int32))
            numbers[c.NUM_FORCED] = len(payload.forced_tokens)
            blocks.append(numbers[c.FORCED])
        known = self._removed.pop(payload.handle, None)
        numbers[c.STATE] = self._free_rows.pop() if known is None else known
        self.tables.admit(
            Admission(
                slot,
                np.array(numbers, np.int32),
                numbers[c.STATE],
                known is not None,
                first_state(payload, loaded, generated),
                bool(loaded.uses & c.USES_COPIES),
            )
        )
        self._stored[slot] = Stored(payload.handle, payload.key, numbers[c.STATE], tuple(blocks))
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
        self._removed[request.handle] = request.row
        if len(self._removed) > MAX_PREEMPTED:
            self._free_rows.append(self._removed.popitem(last=False)[1])
        for block in request.blocks:
            self.tables.ints.release(block)
        self.tables.free(slot)

    def step(self, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
        """Apply each row's program to the [rows, vocabulary] logits, in place."""
        return self.tables.step(batch, logits, alternatives)

    def _load(self, payload: PolicyPayload) -> Loaded:
        """The program of a request, cached by key; those that were requested the longest ago go first."""
        known = self._programs.pop(payload.key, None)
        if known is None:
            program = Program.unpack(payload.program)
            encoded = encode_program(program, self.vocabulary)
            known = Loaded(
                program,
                self.tables.ints.store(encoded.ints),
                self.tables.floats.store(encoded.floats),
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
            self.tables.ints.release(dropped.ints)
            self.tables.floats.release(dropped.floats)


def first_state(payload: PolicyPayload, loaded: Loaded, generated: Sequence[int]) -> State:
    """The state of a request at the first position that will be evaluated."""
    word_state, region = payload.word_state, payload.region
    if generated:
        word_state, region = loaded.program.follow(generated, word_state, region)
    position, rules, uses = payload.num_shared_tokens + len(generated), len(loaded.program.rules), loaded.uses
    inherited = payload.inherited
    cell = np.zeros(c.CELL_INTS, np.int32)
    chances = np.zeros(c.CELL_FLOATS, np.float32) if uses & c.USES_CHANCES else None
    history = np.zeros(HISTORY_BINS, np.int32) if uses & c.USES_HISTORY else None
    sums = entropy_sums = b""
    cell[c.POSITION], cell[c.WORD_STATE], cell[c.IN_REGION] = position, word_state, region
    cell[c.TEXT_RULE] = cell[c.TEXT_PENDING] = c.NONE
    if inherited is not None:
        cell[c.FIRED : c.FIRED + rules] = inherited.fired
        cell[c.CONNECTOR : c.CONNECTOR + rules] = inherited.connector
        cell[c.AFTER_PREVIOUS] = sum(1 << rule for rule, yes in enumerate(inherited.previous) if yes)
        if chances is not None:
            chances[c.HELD : c.HELD + rules] = inherited.held
            chances[c.PLACED : c.PLACED + rules] = inherited.placed
        if history is not None:
            history = np.frombuffer(inherited.history, np.int32)
        sums, entropy_sums = inherited.sums, inherited.entropy_sums
    return State(
        position,
        cell,
        chances,
        history,
        moved_sums(sums, position) if uses & c.USES_WINDOW else None,
        moved_sums(entropy_sums, position) if uses & c.USES_ENTROPIES else None,
    )


def moved_sums(sums: bytes, position: int) -> NDArray[np.float64]:
    """Inherited running sums, which are at their position modulo MAX_WINDOW + 1, at theirs modulo SUMS."""
    ours = np.zeros(c.SUMS)
    if sums:
        theirs = np.frombuffer(sums, np.float64)
        at = np.arange(max(0, position - MAX_WINDOW), position + 1)
        ours[at % c.SUMS] = theirs[at % (MAX_WINDOW + 1)]
    return ours
