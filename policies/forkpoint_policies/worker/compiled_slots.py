"""Requests in slots: those of the compiled step, and beside them those whose actions are in torch only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.native.cpu import HostTables
from forkpoint_policies.kernel.native.cuda import CudaKernels
from forkpoint_policies.kernel.native.device import DeviceTables, Kernels
from forkpoint_policies.kernel.step_types import Batch, StepRecord

from .native_slots import NativeSlots
from .payload import PolicyPayload
from .torch_slots import TorchSlots

logger = logging.getLogger(__name__)


class CompiledSlots:
    """A request takes the step in torch's operations where its policy has an action that is a file of its own, else the
    compiled one. `depth` is the most rows that one request has in a step; `kernels` are those of a device that is not
    this CPU.

    Raises CompilerError where the step cannot be compiled.
    """

    def __init__(
        self, count: int, vocabulary: int, device: torch.device, depth: int = 1, kernels: Kernels | None = None
    ) -> None:
        if kernels is None and device.type == "cuda":
            kernels = CudaKernels(device)

        def make(slots: int, states: int) -> HostTables | DeviceTables:
            if kernels is None:
                return HostTables(slots, states, depth)
            return DeviceTables(slots, states, depth, device, kernels)

        self.native = NativeSlots(count, vocabulary, make)
        self._make_torch = partial(TorchSlots, count, vocabulary, device, depth)
        self._in_torch: TorchSlots | None = None
        self._takes_torch = np.zeros(count + 1, np.bool_)  # by slot; the last is for rows without one

    @property
    def in_torch(self) -> TorchSlots:
        """The slots of the step in torch's operations, made when the first request needs them."""
        if self._in_torch is None:
            logger.info("forkpoint: a policy has an action in torch only; its requests take the slower step")
            self._in_torch = self._make_torch()
        return self._in_torch

    def takes_torch(self, slot: int) -> bool:
        """Whether the request in a slot takes the step in torch's operations."""
        return bool(self._takes_torch[slot])

    def add(
        self, slot: int, payload: PolicyPayload, temperature: float, generated: Sequence[int], address: int
    ) -> Program:
        """Put a request into an empty slot; its program. `address` is the number of where its records go."""
        self._takes_torch[slot] = declared = self.native.program_of(payload).has_declared
        slots = self.in_torch if declared else self.native
        return slots.add(slot, payload, temperature, generated, address)

    def remove(self, slot: int) -> None:
        """Free a slot. Its state is saved for a while, as the request may be resumed."""
        (self.in_torch if self._takes_torch[slot] else self.native).remove(slot)
        self._takes_torch[slot] = False

    def step(self, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
        """Apply each row's program to the [rows, vocabulary] logits, in place."""
        record = self.native.step(batch, logits, alternatives)
        if not self._takes_torch.any() or not (others := self._takes_torch[batch.host_slots]).any():
            return record
        theirs = self.in_torch.step(batch, logits, alternatives)
        rows = torch.from_numpy(others.nonzero()[0]).to(logits.device)
        for own, other in (
            (record.rows, theirs.rows), (record.likeliest, theirs.likeliest),
            (record.probabilities, theirs.probabilities), (record.certainty, theirs.certainty),
        ):  # fmt: skip
            own[rows] = other[rows]
        return record
