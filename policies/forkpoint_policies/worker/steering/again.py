"""Positions that the model computes a second time: `recycle` `from` `again`, as the authors of arXiv:2506.02867 do.

A rule decides on the logits of the step's forward. Where it fires, the model runs once more, with a layer's output for
the last token in place of its input, and vLLM samples from what this gives. It happens between the forward and the
sampling of one step, where both model runners ask for the logits. A further request at the position would compute the
same two forwards, but the token that vLLM samples from the first one would have to be taken back from an answer that is
being streamed, and everything that a request holds would have to be moved to another one at each firing.

In the second forward the token is read with its own keys and values. A third one, without the change, stores the first
one's again: what vLLM has stored of an answer is that of the model without the rule, so that the prefix cache, branches
and requests that were preempted need to know nothing. Tokens at which no rule fires store nothing in either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Module

from forkpoint_policies.compile.program import Action, Program, key_of
from forkpoint_policies.kernel.native.columns import NONE, R_FLAGS, R_HELD, R_POSITION, SENT_COLUMNS
from forkpoint_policies.kernel.record_flags import RULES_SHIFT
from forkpoint_policies.worker.payload import PolicyPayload

from .recycling import second_pass_of_its_own
from .text_rules import Part, TextRules, part_of

_RULES = -1 << RULES_SHIFT
"""The bits of a record's flags that are rules."""


@dataclass(frozen=True)
class Ends:
    """The requests of a forward: their slots (negative: none), how many tokens each has generated, and its last token
    of the forward, by its place in the batch and by its id. All [r]."""

    slots: NDArray[np.int32]
    num_generated: Tensor
    last: Tensor
    last_tokens: Tensor


@dataclass(frozen=True)
class Forward:
    """A forward that has run: how to run it again, and where its tokens' keys and values are stored, by layer."""

    run: Callable[[Mapping[str, Tensor]], Tensor]  # the states [T, D]; it stores at these slots of the cache
    slot_mapping: Mapping[str, Tensor]  # [T], negative: nowhere


class Again:
    """Of a model: the layers that can be run again, for so many tokens of a batch at most, and the requests that may
    have positions computed again."""

    def __init__(self, layers: Mapping[int, Module], num_tokens: int) -> None:
        self._layers, self._num_tokens = layers, num_tokens
        self._rules: TextRules | None = None
        self._layers_of: dict[int, Sequence[int]] = {}  # by slot: of its program's first rules, the layer of each
        self._ends: Ends | None = None
        self._forward: Forward | None = None
        self._decided: Tensor | None = None

    @property
    def is_possible(self) -> bool:
        """Whether some layer can be run again."""
        return bool(self._layers)

    def add(
        self, slot: int, num_slots: int, vocabulary: int, payload: PolicyPayload, program: Program,
        generated: Sequence[int], device: torch.device,
    ) -> None:  # fmt: skip
        """Put a request into an empty slot, if its program has such rules."""
        if not program.draws_again or program.shadow:
            return
        if self._rules is None:
            self._rules = TextRules(num_slots, vocabulary, device, part=again_part)
        self._rules.add(slot, payload, generated)
        self._layers_of[slot] = [rule.layer for rule in program.rules if rule.action == Action.RECYCLE_AGAIN]

    def remove(self, slot: int) -> None:
        """Free a slot, if its request has such rules."""
        if self._layers_of.pop(slot, None) is not None and self._rules is not None:
            self._rules.remove(slot)

    def decides(self, slots: NDArray[np.integer]) -> bool:
        """Whether the request of any of these slots has such rules."""
        return bool(self._layers_of) and not self._layers_of.keys().isdisjoint(slots.tolist())

    def expect(self, ends: Ends | None) -> None:
        """Before a forward: its requests; None if it is a dummy, or none has such rules."""
        self._forward = self._decided = None
        self._ends = ends if ends is not None and self.decides(ends.slots) else None

    @property
    def is_expected(self) -> bool:
        """Whether the forward that runs may have to be run again."""
        return self._ends is not None

    def keep(self, forward: Forward) -> None:
        """The forward that has run."""
        self._forward = forward

    def states(self, states: Tensor, logits: Tensor) -> Tensor | None:
        """The states from which to sample, from those of a forward at the rows of its logits, [rows, D], and these
        logits; None if they are the same."""
        ends, forward, self._ends, self._forward = self._ends, self._forward, None, None
        if ends is None or forward is None or self._rules is None:
            return None
        count = len(ends.slots)
        self._decided = self._rules.decide(ends.slots, ends.num_generated, ends.last_tokens, logits[:count].float())
        fired = {} if self._decided is None else self._fired(ends, self._decided)
        if not fired:
            return None
        device = states.device
        rows = torch.tensor([*fired], device=device)
        again = {layer: torch.zeros(self._num_tokens, dtype=torch.bool, device=device) for layer in fired.values()}
        for row, layer in fired.items():
            again[layer][ends.last[row]] = True
        is_last = torch.stack([*again.values()]).any(dim=0)
        slots = {name: torch.where(is_last[: len(one)], one, NONE) for name, one in forward.slot_mapping.items()}
        with self._second_passes(again):
            found = forward.run(slots)[ends.last[rows]]
        forward.run(slots)
        return states.index_copy(0, rows, found)

    def mark(self, record: Tensor) -> None:
        """Write into a step's record, [rows, RECORD_COLUMNS], where these rules fired in it."""
        decided, self._decided = self._decided, None
        if decided is None:
            return
        own = record[: len(decided)]
        is_same = (decided[:, R_POSITION] >= 0) & (own[:, R_POSITION] == decided[:, R_POSITION])
        own[:, R_FLAGS] |= torch.where(is_same, decided[:, R_FLAGS] & _RULES, 0)
        # the step has zeros for these rules, and this record for the others
        own[:, R_HELD:SENT_COLUMNS] |= torch.where(is_same[:, None], decided[:, R_HELD:SENT_COLUMNS], 0)

    def _fired(self, ends: Ends, decided: Tensor) -> dict[int, int]:
        """The rows in which a rule fired, and which layer is run again: of several rules, that of the last. On a GPU
        this waits for the device: which forwards run is decided on the host."""
        found: dict[int, int] = {}
        numbers = decided[:, [R_POSITION, R_FLAGS]].tolist()
        for row, (slot, (position, flags)) in enumerate(zip(ends.slots.tolist(), numbers, strict=True)):
            rules = flags >> RULES_SHIFT
            if slot in self._layers_of and position >= 0 and rules:
                found[row] = self._layers_of[slot][rules.bit_length() - 1]
        return found

    @contextmanager
    def _second_passes(self, again: Mapping[int, Tensor]) -> Iterator[None]:
        with ExitStack() as stack:
            for layer, chosen in again.items():
                stack.enter_context(second_pass_of_its_own(self._layers[layer], chosen))
            yield


def forward_of(context: Any, run: Callable[[Any], Tensor]) -> Forward:
    """The forward that has run in one of vLLM's contexts; `run` runs it in another one. It is not compiled, so that
    hooks can be put on it."""

    def again(slot_mapping: Mapping[str, Tensor]) -> Tensor:
        return run(replace(context, skip_compiled=True, slot_mapping=slot_mapping, moe_layer_index=0))

    return Forward(again, context.slot_mapping)


@lru_cache(maxsize=16)
def again_part(packed: bytes) -> Part:
    """The rules that let a position be computed again."""
    return part_of(Program.unpack(packed), lambda rule: rule.action == Action.RECYCLE_AGAIN)


def for_own_step(payload: PolicyPayload) -> PolicyPayload:
    """A payload as a request's own step gets it: the rules that were decided before do not decide once more, on the
    distribution that they have changed."""
    packed = _without_again(payload.program)
    return payload if packed is None else msgspec.structs.replace(payload, program=packed, key=key_of(packed))


@lru_cache(maxsize=16)
def _without_again(packed: bytes) -> bytes | None:
    program = Program.unpack(packed)
    if not program.draws_again or program.shadow:
        return None
    rules = [
        msgspec.structs.replace(rule, at_most=0) if rule.action == Action.RECYCLE_AGAIN else rule
        for rule in program.rules
    ]
    return msgspec.structs.replace(program, rules=rules).pack()
