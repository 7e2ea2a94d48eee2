"""What a process's model and logits processor share: the buffers that the hooks read, and the plans of the requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Action, CompiledRule, ControlKind, Program
from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.worker.artefacts import ARTEFACTS, MAX_HELD
from forkpoint_policies.worker.request import Request

from .again import Again, Ends
from .hooks import Buffers
from .plans import NO_DECISIONS, PlannedRule, Plans
from .table import NOTHING, VectorRows, Vectors
from .text_rules import TextRules

logger = logging.getLogger(__name__)

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
        self._plans: dict[Action, Plans] = {}
        self._text_rules: TextRules | None = None
        self._is_clear = True
        self.again = Again({}, 0)
        self.requests: Requests | None = None
        """Of the batch that runs next; None if no state of theirs is changed."""

    def attach(self, buffers: Buffers) -> None:
        """The buffers of the model that this process runs."""
        self._buffers, self._plans, self._text_rules = buffers, {}, None
        self.again = Again({}, 0)
        self._rows = VectorRows(buffers.tables, _vectors)

    def add(self, slot: int, num_slots: int, vocabulary: int, request: Request, generated: Sequence[int]) -> None:
        """Put a request into an empty slot, of so many, if its program changes states. `generated` are its tokens so
        far."""
        program, payload = request.program, request.payload
        if self._buffers is None or program.shadow:
            return
        device = self._buffers.row_of.device
        self.again.add(slot, num_slots, vocabulary, payload, program, generated, device)
        planned = {
            Action.STEER: self._rules(program, Action.STEER, self._row_of),
            Action.RECYCLE: self._rules(program, Action.RECYCLE, self._number_of),
        }
        decisions = NO_DECISIONS if payload.inherited is None else payload.inherited.decisions
        for action, rules in planned.items():
            if rules:
                if action not in self._plans:
                    self._plans[action] = Plans(num_slots, self._buffers.max_positions, device)
                self._plans[action].add(slot, payload.handle, payload.num_shared_tokens, rules, decisions)
        if any(rule.from_here for rules in planned.values() for rule in rules.values()):
            if self._text_rules is None:
                self._text_rules = TextRules(num_slots, vocabulary, device)
            self._text_rules.add(slot, payload, generated)

    def remove(self, slot: int) -> None:
        """Free a slot, if its request has a plan."""
        for plans in self._plans.values():
            plans.remove(slot)
        if self._text_rules is not None:
            self._text_rules.remove(slot)
        self.again.remove(slot)

    @property
    def in_use(self) -> bool:
        """Whether some request's state may be changed."""
        return any(plans.in_use for plans in self._plans.values())

    def decide(self, slots: NDArray[np.int32], record: Tensor) -> None:
        """Plan what the rows of a step decided: [n] slots, and the rows of its record."""
        if self.changes(slots):
            self._decide(torch.from_numpy(slots).to(record.device), record)

    def changes(self, slots: NDArray[np.integer]) -> bool:
        """Whether the request of any of these slots may have a state changed."""
        planned = any(plans.in_use and bool(plans.has_plan_at[slots].any()) for plans in self._plans.values())
        return planned or self.again.decides(slots)

    def clear(self) -> None:
        """Change nothing in the next forward."""
        self.again.expect(None)
        if not self._is_clear and self._buffers is not None:
            self._buffers.clear()
        self._is_clear = True

    def place(self, requests: Requests, starts: Tensor, positions: Tensor, token_ids: Tensor) -> None:
        """Before a forward: where each request's tokens start in the batch [r + 1], and each token's position [n] in
        prompt and answer, and its id [n]. Tokens after the last start are padding."""
        assert self._buffers is not None
        count, own_slots = len(requests.slots), torch.from_numpy(requests.slots).to(positions.device)
        last = starts[1 : count + 1].long() - 1
        num_generated = positions[last] + 1 - requests.prompt_lens
        self.again.expect(Ends(requests.slots, num_generated, last, token_ids[last]))
        if self._text_rules is not None:
            decided = self._text_rules.decide(requests.slots, num_generated, token_ids[last])
            if decided is not None:
                self._decide(own_slots, decided)
        tokens = torch.arange(len(positions), device=positions.device, dtype=starts.dtype)
        request = torch.searchsorted(starts[1:].contiguous(), tokens, right=True)
        request, known = request.clamp(max=count - 1), request < count
        slots = torch.where(known, own_slots[request], NONE)
        after_prompt = positions - requests.prompt_lens[request]
        for action, plans in self._plans.items():
            row_of, scale = plans.rows_of(slots, after_prompt)
            if action == Action.STEER:
                self._buffers.put(row_of, scale)
            else:
                self._buffers.put_again(row_of)
        self._is_clear = False

    def _decide(self, slots: Tensor, record: Tensor) -> None:
        for plans in self._plans.values():
            plans.decide(slots, record)

    def _rules(
        self, program: Program, action: Action, row_of: Callable[[CompiledRule, frozenset[int]], int]
    ) -> dict[int, PlannedRule]:
        """The rules of a program that do this and can be had, by their index in it; `row_of` finds the row of one,
        given those that are in use."""
        in_use = self._plans[action].rows if action in self._plans else frozenset[int]()
        found: dict[int, PlannedRule] = {}
        for index, rule in enumerate(program.rules):
            if rule.action == action:
                row = row_of(rule, in_use)
                in_use |= {row}
                if row != NOTHING:
                    found[index] = PlannedRule(row, rule.strength, rule.num_tokens, rule.from_here)
        return found

    def _row_of(self, rule: CompiledRule, in_use: frozenset[int]) -> int:
        assert self._rows is not None
        return self._rows.row(rule.vector, rule.control == ControlKind.DIRECTION, in_use)

    def _number_of(self, rule: CompiledRule, _in_use: frozenset[int]) -> int:
        assert self._buffers is not None
        if rule.layer not in self._buffers.again:  # the server was started with other layers than this worker
            logger.error("forkpoint: layer %d is not run again: this worker cannot", rule.layer)
            return NOTHING
        return [*self._buffers.again].index(rule.layer) + 1


def _vectors(digest: str) -> Vectors | None:
    artefact = ARTEFACTS.get(digest)
    if artefact is None:
        return None
    return {layer: artefact.tensors[f"layer.{layer}"] for layer in artefact.layers}


STEERING = Steering()
"""Of this process."""
