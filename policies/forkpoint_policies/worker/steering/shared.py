"""What a process's model and logits processor share: the buffers that the hooks read, and the plans of the requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Action, ControlKind
from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.worker.artefacts import ARTEFACTS, MAX_HELD
from forkpoint_policies.worker.request import Request

from .hooks import Buffers
from .plans import Plans, SteeringRule
from .table import VectorRows, Vectors
from .text_rules import TextRules

TABLE_ROWS = 1 + 2 * MAX_HELD
"""One for nothing, and two for each vector that a worker holds: its own, and its placebo's."""


@dataclass(frozen=True)
class Requests:
    """The requests of a batch, in its order: their slots (negative: none), and the tokens of their prompts."""

    slots: NDArray[np.int32]  # [r], on the host
    prompt_lens: Tensor  # [r]


class Steering:
    """The model attaches its buffers; the logits processor adds the requests and their decisions."""

    def __init__(self) -> None:
        self._buffers: Buffers | None = None
        self._rows: VectorRows | None = None
        self._plans: Plans | None = None
        self._text_rules: TextRules | None = None
        self._is_clear = True
        self.requests: Requests | None = None
        """Of the batch that runs next; None if none of them steers."""

    def attach(self, buffers: Buffers) -> None:
        """The buffers of the model that this process runs."""
        self._buffers, self._plans, self._text_rules = buffers, None, None
        self._rows = VectorRows(buffers.tables, _vectors)

    def add(self, slot: int, num_slots: int, vocabulary: int, request: Request, generated: Sequence[int]) -> None:
        """Put a request into an empty slot, of so many, if its program steers. `generated` are its tokens so far."""
        program, payload = request.program, request.payload
        rules = {
            index: rule
            for index, rule in enumerate(program.rules)
            if rule.action == Action.STEER and not program.shadow
        }
        if not rules or self._buffers is None or self._rows is None:
            return
        if self._plans is None:
            device = self._buffers.row_of.device
            self._plans = Plans(num_slots, self._buffers.max_positions, device)
        in_use = self._plans.rows
        planned: dict[int, SteeringRule] = {}
        for index, rule in rules.items():
            row = self._rows.row(rule.vector, rule.control == ControlKind.DIRECTION, in_use)
            in_use |= {row}
            planned[index] = SteeringRule(row, rule.strength, rule.num_tokens, rule.from_here)
        self._plans.add(slot, payload.handle, payload.num_shared_tokens, planned)
        if any(rule.from_here for rule in rules.values()):
            if self._text_rules is None:
                self._text_rules = TextRules(num_slots, vocabulary, self._buffers.row_of.device)
            self._text_rules.add(slot, payload, generated)

    def remove(self, slot: int) -> None:
        """Free a slot, if its request steers."""
        if self._plans is not None:
            self._plans.remove(slot)
        if self._text_rules is not None:
            self._text_rules.remove(slot)

    def decide(self, slots: NDArray[np.int32], record: Tensor) -> None:
        """Plan what the rows of a step decided: [n] slots, and the rows of its record."""
        if self._plans is not None and self.steers(slots):
            self._plans.decide(torch.from_numpy(slots).to(record.device), record)

    def steers(self, slots: NDArray[np.integer]) -> bool:
        """Whether the request of any of these slots may steer."""
        return self._plans is not None and self._plans.in_use and bool(self._plans.steered_at[slots].any())

    def clear(self) -> None:
        """Add nothing in the next forward."""
        if not self._is_clear and self._buffers is not None:
            self._buffers.clear()
        self._is_clear = True

    def place(self, requests: Requests, starts: Tensor, positions: Tensor, token_ids: Tensor) -> None:
        """Before a forward: where each request's tokens start in the batch [r + 1], and each token's position [n] in
        prompt and answer, and its id [n]. Tokens after the last start are padding."""
        assert self._buffers is not None
        assert self._plans is not None
        count, own_slots = len(requests.slots), torch.from_numpy(requests.slots).to(positions.device)
        if self._text_rules is not None:
            last = starts[1 : count + 1].long() - 1
            num_generated = positions[last] + 1 - requests.prompt_lens
            decided = self._text_rules.decide(requests.slots, num_generated, token_ids[last])
            if decided is not None:
                self._plans.decide(own_slots, decided)
        tokens = torch.arange(len(positions), device=positions.device, dtype=starts.dtype)
        request = torch.searchsorted(starts[1:].contiguous(), tokens, right=True)
        request, known = request.clamp(max=count - 1), request < count
        slots = torch.where(known, own_slots[request], NONE)
        row_of, scale = self._plans.vectors(slots, positions - requests.prompt_lens[request])
        self._buffers.put(row_of, scale)
        self._is_clear = False


def _vectors(digest: str) -> Vectors | None:
    artefact = ARTEFACTS.get(digest)
    if artefact is None:
        return None
    return {layer: artefact.tensors[f"layer.{layer}"] for layer in artefact.layers}


STEERING = Steering()
"""Of this process."""
