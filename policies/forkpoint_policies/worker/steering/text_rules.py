"""Decisions before a request's own step: those of the rules by which the token before is read with a change.

The step of every policy decides them, over a program of these rules alone. Where they are `from` `here`, their
conditions are of the text and of chance: they are decided before the model has computed anything, and the request's own
step decides alike. `again` decides others, on the logits of a first forward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import CompiledRule, Program, key_of
from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.kernel.sampling_limits import NO_LIMITS
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.slots_of_step import slots_of_step

Part = tuple[bytes, str, int]
"""A program of some rules alone, packed, its key, and how many they are: the first ones of the whole program."""


class TextRules:
    """The requests that have such rules, by slot, of so many slots. `depth` is the most rows that one request has in a
    step, and `part` finds the rules in a packed program."""

    def __init__(
        self,
        num_slots: int,
        vocabulary: int,
        device: torch.device,
        depth: int = 1,
        part: Callable[[bytes], Part] | None = None,
    ) -> None:
        self._part = part or text_part
        self._slots = slots_of_step(num_slots, vocabulary, device, depth)
        self._is_in = np.zeros(num_slots + 1, np.bool_)  # the last is for rows without a slot
        self._no_prompts = torch.zeros(num_slots, dtype=torch.int32, device=device)
        self._device = device

    def add(self, slot: int, payload: PolicyPayload, generated: Sequence[int]) -> None:
        """Put a request into an empty slot. One that was preempted gets its state back."""
        packed, key, count = self._part(payload.program)
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

    def decide(
        self, slots: NDArray[np.int32], num_generated: Tensor, last_tokens: Tensor, logits: Tensor | None = None
    ) -> Tensor | None:
        """The record of the decisions at each row of a forward's logits, by its request's slot (negative: none), how
        many tokens this has generated, drafts up to here with them, and the last one: all [rows]. None where no request
        has such rules.

        Rules that look at logits need those of the rows, [rows, vocabulary] float32. A row at which nothing is decided,
        as inside a prompt, has a negative position.
        """
        own = np.where(self._is_in[slots], slots, NONE).astype(np.int32)
        if (own < 0).all():
            return None
        if logits is None:  # those of one token stand for them
            logits = torch.zeros(len(own), 1, device=self._device)
        batch = Batch(
            torch.from_numpy(own).to(self._device), num_generated - 1, last_tokens, self._no_prompts, known_slots=own
        )
        return self._slots.step(batch, logits, 0).rows


@lru_cache(maxsize=16)
def text_part(packed: bytes) -> Part:
    """The rules that are decided before a forward."""
    return part_of(Program.unpack(packed), lambda rule: rule.from_here)


def part_of(program: Program, is_in: Callable[[CompiledRule], bool]) -> Part:
    """A program of these rules of another one."""
    rules = [rule for rule in program.rules if is_in(rule)]
    own = msgspec.structs.replace(program, rules=rules, readouts=[]).pack()
    return own, key_of(own), len(rules)
