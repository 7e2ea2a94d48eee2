"""Batches of requests with policies, stepped as by the adapters: through RequestSlots, with logits that the test
chooses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
import torch
from torch import Tensor

from forkpoint_policies.compile.compiler import CompiledPolicy, ServedModel, compile_policy
from forkpoint_policies.compile.program import Program, key_of
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.kernel.batch import SlotRow
from forkpoint_policies.kernel.record_flags import RULES_SHIFT
from forkpoint_policies.kernel.step import Record, Rows, step
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.request_slots import RequestSlots

from .vocabularies import TARGET

CPU = torch.device("cpu")

Json = dict[str, Any]


def policy(*rules: Json, **fields: Any) -> Json:
    return {"rules": list(rules), **fields}


def rule(when: Json | None = None, **do: Any) -> Json:
    return {"when": when or {}, "do": do}


FULL = policy(
    rule({"entropy_above": "fork", "region": "reasoning", "at_most": 3}, temperature=1.25),
    rule({"connectors": ["conclusion"], "connector_probability_above": 0.25}, amplify={"words": ["so"], "bias": 2.0}),
    rule({"after_token": 4, "before_token": 9, "varentropy_below": 2.0, "top_probability_above": 0.5}, observe={}),
    rule(suppress={"connectors": ["reflection"], "token_ids": [7]}),
    rule({"entropy_below": 1.5, "region": "answer"}, suppress={"words": ["wait"], "bias": -3.0}),
)
"""A policy whose rules have conditions and actions of several kinds."""


def random_logits(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


@lru_cache(maxsize=256)
def _compiled(policy: str, target: ServedModel) -> CompiledPolicy:
    return compile_policy(parse_policy(json.loads(policy)), target)


def compiled(policy: Json, target: ServedModel = TARGET) -> Program:
    """The program of a policy, as a user writes it."""
    return _compiled(json.dumps(policy), target).program


def warnings(policy: Json, target: ServedModel = TARGET) -> tuple[str, ...]:
    return _compiled(json.dumps(policy), target).warnings


@lru_cache(maxsize=256)
def _packed(program: bytes) -> tuple[bytes, str]:
    return program, key_of(program)


@dataclass(frozen=True)
class Request:
    """A request and its sampling; `program` is None for one without a policy, and a temperature of 0 is greedy."""

    program: Program | None
    temperature: float = 1.0
    alternatives: int = 0
    word_state: int = FREE
    region: int = Region.REASONING
    handle: int = 1
    address: str = ""
    seed: int = 0
    sampled: dict[int, list[int]] = field(default_factory=dict)
    num_shared_tokens: int = 0
    forced_tokens: list[int] = field(default_factory=list)

    def payload(self) -> PolicyPayload:
        assert self.program is not None
        packed, key = _packed(self.program.pack())
        where = (self.handle, self.address, self.word_state, self.region)
        return PolicyPayload(
            packed,
            key,
            *where,
            self.alternatives,
            self.seed,
            self.sampled,
            self.num_shared_tokens,
            forced_tokens=self.forced_tokens,
        )


class Run:
    """Requests that are generated together.

    A request's slot is its number, and it is added when it is first stepped.
    """

    def __init__(self, *requests: Request, vocabulary: int = TARGET.vocabulary.size) -> None:
        self.requests = requests
        self.slots = RequestSlots(len(requests), vocabulary, CPU)
        self.added: dict[int, SlotRow] = {}

    def step(self, logits: Tensor, generated: Sequence[list[int]], batch: Sequence[int] | None = None) -> Record:
        """One step, which changes the [batch, vocabulary] logits; `generated[i]` is what request i has so far.

        `batch` names the request in each row, by default all of them; at least one has a policy.
        """
        batch = range(len(self.requests)) if batch is None else batch
        rows = [row for row, number in enumerate(batch) if self.requests[number].program is not None]
        numbers = [batch[row] for row in rows]
        for number in numbers:
            if number not in self.added:
                request = self.requests[number]
                payload = msgspec.structs.replace(request.payload(), handle=number + 1)
                self.added[number] = self.slots.add(number, payload, request.temperature, generated[number])
        layout, _ = self.slots.layout([self.added[batch[row]].at(row) for row in rows], len(batch))
        position = torch.tensor([len(generated[number]) for number in numbers])
        last = torch.tensor([generated[number][-1] if generated[number] else 0 for number in numbers])
        return step(self.slots.slots, Rows(layout, position, last), logits)


def apply(policy: Json, logits: Tensor, *, target: ServedModel = TARGET, **request: Any) -> tuple[Tensor, Record]:
    """The logits [vocabulary] after one step of one request at its first position, and the record."""
    changed = logits[None].clone()
    record = Run(Request(compiled(policy, target), **request), vocabulary=len(logits)).step(changed, [[]])
    return changed[0], record


def fired(record: Record, row: int = 0) -> list[int]:
    """The rules that fired, by their index in the program."""
    bits = int(record.flags[row]) >> RULES_SHIFT
    return [rule for rule in range(bits.bit_length()) if bits >> rule & 1]


def effects(record: Record, row: int = 0) -> list[float]:
    """The effect of each rule, in the program's order."""
    return [float(effect) for effect in record.numbers[row, 4:]]
