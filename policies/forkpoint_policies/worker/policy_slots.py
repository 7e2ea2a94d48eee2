"""The requests of a worker that have a policy, by slot, and the step over a batch. Shared by both adapters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.hidden.effective_rank import UNKNOWN, RankState
from forkpoint_policies.hidden.rank_windows import RankWindows
from forkpoint_policies.hidden.readouts import Readout, read_out
from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.kernel.step_types import Batch, StepRecord
from forkpoint_policies.spec import MAX_READOUTS

from .artefacts import ARTEFACTS, WorkerArtefacts
from .destinations import Address, Destinations
from .kept_states import LAST_LAYER, STATES
from .layer_states import LAYER_STATES
from .payload import PolicyPayload
from .request import Request, Wanted, step_temperature
from .sampled_from import ScoredRows
from .slots_of_step import slots_of_step
from .steering.again import for_own_step
from .steering.shared import STEERING


class PolicySlots:
    """`depth` is the most rows that one request has in a step."""

    def __init__(
        self,
        count: int,
        vocabulary: int,
        device: torch.device,
        depth: int = 1,
        artefacts: WorkerArtefacts = ARTEFACTS,
    ) -> None:
        self._artefacts = artefacts
        self.slots = slots_of_step(count, vocabulary, device, depth)
        self._vocabulary, self._device, self._depth = vocabulary, device, depth
        self._ranks = RankWindows(count, depth)
        self._ranked: dict[int, Request] = {}  # those whose policies depend on the effective rank
        self._readouts: dict[int, tuple[Readout | None, ...]] = {}  # of those whose policies depend on some
        self._keeping: dict[int, int] = {}  # the handles of those that keep their hidden states, by slot
        self._requests: dict[int, Request] = {}
        self._slot_of: dict[int, int] = {}  # by handle
        self._scored: dict[int, Request] = {}  # those whose tokens' log probabilities are reported
        self.has_policy_at = np.zeros(count, np.bool_)
        """[slots]"""
        self._by_wanted: Counter[Wanted] = Counter()
        self._wanted: Wanted | None = None
        self.addresses: list[Address] = []
        """Where records go, by the number in their column."""

    def add(self, slot: int, payload: PolicyPayload, temperature: float, generated: Sequence[int]) -> Request:
        """Put a request into a slot; `generated` are its tokens so far: none unless it was preempted before."""
        # V2 does not report a preemption: the request is added again, perhaps to another slot
        for stale in {slot, self._slot_of.get(payload.handle, slot)}:
            self.remove(stale)
        temperature = step_temperature(temperature)
        own = for_own_step(payload) if STEERING.again.is_possible else payload
        program = self.slots.add(slot, own, temperature, generated, self._number_of(payload))
        request = self._requests[slot] = Request(payload, program, temperature)
        self._slot_of[payload.handle] = slot
        self.has_policy_at[slot] = True
        if payload.scored and payload.address:
            self._scored[slot] = request
        if (span := program.rank_span) is not None:
            self._ranked[slot] = request
            self._ranks.add(slot, payload.handle, span, payload.num_shared_tokens + len(generated))
        if program.readouts:
            found = (self._artefacts.get(digest) for digest in program.readouts)
            self._readouts[slot] = tuple(None if one is None else Readout.of(one, self._device) for one in found)
        if payload.max_states:
            self._keeping[slot] = payload.handle
            STATES.begin(payload.handle, payload.max_states, payload.kept_states)
            LAYER_STATES.want(slot, payload.kept_states)
        STEERING.add(slot, len(self.has_policy_at), self._vocabulary, request, generated, self._depth)
        self._by_wanted[request.wanted] += 1
        self._wanted = None
        return request

    def remove(self, slot: int) -> None:
        """Free a slot, if it is not free.

        A request's state is saved for a while: vLLM does not report whether the request ended or will be resumed.
        """
        request = self._requests.pop(slot, None)
        if request is None:
            return
        self.slots.remove(slot)
        self._slot_of.pop(request.payload.handle, None)
        self._scored.pop(slot, None)
        if self._ranked.pop(slot, None) is not None:
            self._ranks.remove(slot)
        self._readouts.pop(slot, None)
        if self._keeping.pop(slot, None) is not None:
            LAYER_STATES.forget(slot)
        STEERING.remove(slot)
        self.has_policy_at[slot] = False
        self._by_wanted[request.wanted] -= 1
        if not self._by_wanted[request.wanted]:
            del self._by_wanted[request.wanted]
        self._wanted = None

    def has_policy(self, slots: NDArray[np.integer]) -> bool:
        """Whether the request of any of these slots has a policy."""
        return bool(self.has_policy_at[slots].any())

    @property
    def wanted(self) -> Wanted:
        """What the requests of the worker want of records: the most that any of them does."""
        if self._wanted is None:
            self._wanted = Wanted(
                rules=max((one.rules for one in self._by_wanted), default=0),
                alternatives=max((one.alternatives for one in self._by_wanted), default=0),
                branches=any(one.branches for one in self._by_wanted),
            )
        return self._wanted

    def step(self, batch: Batch, logits: Tensor, states: Tensor | None = None) -> StepRecord:
        """Apply the policy of each row's request to the [rows, vocabulary] float32 logits, in place.

        `states` are the last layer's hidden states [rows, D], if they are known.
        """
        if (self._ranked or self._readouts) and states is not None:
            batch = replace(batch, hidden=self._hidden(batch, states))
        record = self.slots.step(batch, logits, self.wanted.alternatives)
        STEERING.again.mark(record.rows)
        if STEERING.in_use:
            STEERING.decide(batch, record.rows)
        if self._keeping:
            known = {} if states is None else {LAST_LAYER: states}
            STATES.keep(self._keeping, batch.host_slots, record.rows, {**known, **LAYER_STATES.states})
        return record if batch.hidden is None else replace(record, hidden=batch.hidden)

    def _hidden(self, batch: Batch, states: Tensor) -> Tensor | None:
        """The signals of hidden states at each row, as in Batch; None where no row's request has any."""
        slots = batch.host_slots.tolist()
        ranks = None if self._ranked.keys().isdisjoint(slots) else self._ranks_at(batch, slots, states)
        if ranks is None and self._readouts.keys().isdisjoint(slots):
            return None
        values = read_out([self._readouts.get(slot, ()) for slot in slots], states, MAX_READOUTS)
        columns = [
            (one.rank, one.velocity, one.acceleration, *own)
            for one, own in zip(ranks or [UNKNOWN] * len(slots), values, strict=True)
        ]
        return torch.tensor(columns, dtype=torch.float32).to(self._device)

    def _ranks_at(self, batch: Batch, slots: list[int], states: Tensor) -> list[RankState]:
        """The effective rank at each row."""
        shared = [self._ranked[slot].payload.num_shared_tokens if slot in self._ranked else 0 for slot in slots]
        prompt_lens = batch.prompt_lens[torch.from_numpy(np.maximum(batch.host_slots, 0)).to(self._device)]
        # on a GPU this waits for the device: which positions are due is decided on the host
        generated = (batch.positions.long() + 1 - prompt_lens.long()).tolist()
        return self._ranks.measure(slots, [own + more for own, more in zip(generated, shared, strict=True)], states)

    def destinations(self, batch: Batch) -> Destinations:
        """Where the record of a batch goes."""
        scored = None
        if self._scored:
            rows = [
                (row, self._scored[slot]) for row, slot in enumerate(batch.host_slots.tolist()) if slot in self._scored
            ]
            scored = ScoredRows.of(rows, self._vocabulary, self._device)
        return Destinations(self.addresses, self.wanted, scored)

    def _number_of(self, payload: PolicyPayload) -> int:
        if not payload.address:
            return NONE
        address = Address(payload.address, payload.sums_above)
        if address not in self.addresses:
            self.addresses.append(address)
        return self.addresses.index(address)
