"""Decisions before a forward: those of the rules by which the token before is read with a vector, `from` `here`.

Their conditions are of the text and of chance. So the step of every policy decides them, over a program of these rules
alone and before the model has computed anything; after the forward, the request's own step decides alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Program, key_of
from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.kernel.sampling_limits import NO_LIMITS
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.slots_of_step import slots_of_step


class TextRules:
    """The requests that have such rules, by slot, of so many slots."""

    def __init__(self, num_slots: int, vocabulary: int, device: torch.device) -> None:
        self._slots = slots_of_step(num_slots, vocabulary, device)
        self._is_in = np.zeros(num_slots + 1, np.bool_)  # the last is for rows without a slot
        self._no_prompts = torch.zeros(num_slots, dtype=torch.int32, device=device)
        self._device = device

    def add(self, slot: int, payload: PolicyPayload, generated: Sequence[int]) -> None:
        """Put a request into an empty slot. One that was preempted gets its state back."""
        packed, key, count = text_part(payload.program)
        inherited = None if payload.inherited is None else payload.inherited.of_first(count)
        own = msgspec.structs.replace(
            payload, program=packed, key=key, address="", alternatives=0, sampled={}, forced_tokens=[],
            limits=NO_LIMITS, inherited=inherited,
        )  # fmt: skip
        self._slots.add(slot, own, 1.0, generated, NONE)
        self._is_in[slot] = True

    def remove(self, slot: int) -> None:
        """Free a slot, if it is not free."""
        if self._is_in[slot]:
            self._slots.remove(slot)
            self._is_in[slot] = False

    def decide(self, slots: NDArray[np.int32], num_generated: Tensor, last_tokens: Tensor) -> Tensor | None:
        """The record of the decisions after each request's last token of a forward, by its slot (negative: none), how
        many tokens it has generated, and this token: all [r]. None where no request has such rules.

        A row at which nothing is decided, as inside a prompt, has a negative position.
        """
        own = np.where(self._is_in[slots], slots, NONE).astype(np.int32)
        if (own < 0).all():
            return None
        # the rules look at no logits: those of one token stand for them
        logits = torch.zeros(len(own), 1, device=self._device)
        batch = Batch(
            torch.from_numpy(own).to(self._device), num_generated - 1, last_tokens, self._no_prompts, known_slots=own
        )
        return self._slots.step(batch, logits, 0).rows


@lru_cache(maxsize=16)
def text_part(packed: bytes) -> tuple[bytes, str, int]:
    """A program of the rules alone that are decided before a forward, packed, its key, and how many they are: the
    program's first ones."""
    program = Program.unpack(packed)
    rules = [rule for rule in program.rules if rule.from_here]
    own = msgspec.structs.replace(program, rules=rules, readouts=[]).pack()
    return own, key_of(own), len(rules)
