"""What a process's model and logits processor share: the buffers that the hooks read, and the plans of the requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Action, CompiledRule, ControlKind, Program
from forkpoint_policies.kernel.native.columns import NONE, R_POSITION
from forkpoint_policies.kernel.step_types import Batch
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
    num_drafts: NDArray[np.integer] | None = None  # [r], the last tokens of each; None without speculative decoding

    @property
    def sampled_from(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of each row of the logits: its request's place in the batch, and how many of its tokens come after the row's,
        both [rows]. A request has a row for its last committed token, then one for each draft."""
        drafts = np.zeros(len(self.slots), np.int64) if self.num_drafts is None else self.num_drafts.astype(np.int64)
        request = np.arange(len(drafts)).repeat(drafts + 1)
        ends = (drafts + 1).cumsum()
        return request, ends[request] - 1 - np.arange(len(request))


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
        self.drafts: Tensor | None = None
        """The tokens that are about to be verified, [rows] of the next step: those of a request after its first are
        drafts, which are rejected where they are below 0. None without drafts."""

    def attach(self, buffers: Buffers) -> None:
        """The buffers of the model that this process runs."""
        self._buffers, self._plans, self._text_rules = buffers, {}, None
        self.again = Again({}, 0)
        self._rows = VectorRows(buffers.tables, _vectors)

    def add(
        self, slot: int, num_slots: int, vocabulary: int, request: Request, generated: Sequence[int], depth: int = 1
    ) -> None:
        """Put a request into an empty slot, of so many, if its program changes states. `generated` are its tokens so
        far, and `depth` is the most rows that one request has in a step."""
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
                self._text_rules = TextRules(num_slots, vocabulary, device, depth)
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

    def decide(self, batch: Batch, record: Tensor) -> None:
        """Plan what the rows of a step decided, [n], by the rows of its record.

        A draft that was read otherwise than is now decided is rejected: the rows after it are those of another text
        than the one that will be there, and lose their position in the record. So a draft behind a rule that fires
        after the forward is drawn anew, from the distribution of its own row, which does not depend on the draft.
        """
        if not self.changes(batch.host_slots):
            return
        slots = torch.from_numpy(batch.host_slots).to(record.device)
        if self.drafts is None:
            self._decide(slots, record)
            return
        after_prompt = batch.positions.long() - batch.prompt_lens[slots.clamp(min=0).long()].long()
        read = self._rows_of(slots, after_prompt)
        self._decide(slots, record)
        wrong = _differ(read, self._rows_of(slots, after_prompt))
        rejected = _after_wrong_drafts(slots, wrong)
        self.drafts.masked_fill_(rejected, NONE)
        record[:, R_POSITION].masked_fill_(rejected, NONE)

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
            of_row, before_end = requests.sampled_from
            owner = torch.from_numpy(of_row).to(positions.device)
            token = last[owner] - torch.from_numpy(before_end).to(positions.device)
            at = positions[token] + 1 - requests.prompt_lens[owner]
            decided = self._text_rules.decide(requests.slots[of_row], at, token_ids[token])
            if decided is not None:
                self._decide(own_slots[owner], decided)
        tokens = torch.arange(len(positions), device=positions.device, dtype=starts.dtype)
        request = torch.searchsorted(starts[1:].contiguous(), tokens, right=True)
        request, known = request.clamp(max=count - 1), request < count
        slots = torch.where(known, own_slots[request], NONE)
        after_prompt = positions - requests.prompt_lens[request]
        for action, (row_of, scale) in self._rows_of(slots, after_prompt).items():
            if action == Action.STEER:
                self._buffers.put(row_of, scale)
            else:
                self._buffers.put_again(row_of)
        self._is_clear = False

    def _rows_of(self, slots: Tensor, after_prompt: Tensor) -> dict[Action, tuple[Tensor, Tensor]]:
        """With what tokens are read as of now, for each kind of change: as Plans.rows_of."""
        return {action: plans.rows_of(slots, after_prompt) for action, plans in self._plans.items()}

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


def _differ(one: Mapping[Action, tuple[Tensor, Tensor]], other: Mapping[Action, tuple[Tensor, Tensor]]) -> Tensor:
    """Which tokens are read otherwise: [n]."""
    parts = [first != second for action in one for first, second in zip(one[action], other[action], strict=True)]
    return torch.stack(parts).any(dim=0)


def _after_wrong_drafts(slots: Tensor, wrong: Tensor) -> Tensor:
    """Which rows of the logits come after a wrong draft: [n], by the rows' slots and whether the token that a row comes
    after is wrong. A request's first token is never a draft."""
    row = torch.arange(len(slots), device=slots.device)
    is_draft = torch.zeros_like(wrong)
    is_draft[1:] = slots[1:] == slots[:-1]
    first = torch.where(is_draft, 0, row).cummax(dim=0).values  # of the row's request
    so_far = (wrong & is_draft).cumsum(dim=0)
    return so_far > so_far[first]


def _vectors(digest: str) -> Vectors | None:
    artefact = ARTEFACTS.get(digest)
    if artefact is None:
        return None
    return {layer: artefact.tensors[f"layer.{layer}"] for layer in artefact.layers}


STEERING = Steering()
"""Of this process."""
