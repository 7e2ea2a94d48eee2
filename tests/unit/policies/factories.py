"""Batches of requests with policies, stepped as by the adapters, through PolicySlots; the test chooses the logits."""

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
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.record_flags import RULES_SHIFT
from forkpoint_policies.kernel.sampling_limits import NO_LIMITS, SamplingLimits
from forkpoint_policies.kernel.step_types import Batch, StepRecord
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.policy_slots import PolicySlots

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
    limits: SamplingLimits = NO_LIMITS

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
            limits=self.limits,
        )


@dataclass(frozen=True)
class Record:
    """What a StepRecord says of the rows that have a policy. `alternatives` are of the rows that have some."""

    position: Tensor  # [n] int64
    last_token: Tensor  # [n] int64
    flags: Tensor  # [n] int64
    numbers: Tensor  # [n, 4 + R] float32: entropy, varentropy, top probability, connector mass, effect per rule
    inherited: Tensor  # [n, 1 + 2 R] float32: confidence in nats, and per rule what counted for its placebo
    alternatives: Tensor | None  # [m, k] int64
    probabilities: Tensor | None  # [m, k] float32
    certainty: Tensor | None  # [m] float32

    @staticmethod
    def of(record: StepRecord, rows: Sequence[int], rules: int) -> Record:
        own = record.rows[list(rows)]
        numbers = own.view(torch.float32)
        detailed = [row for row in rows if int(record.likeliest[row, 0]) >= 0]
        return Record(
            position=own[:, c.R_POSITION].long(),
            last_token=own[:, c.R_LAST_TOKEN].long(),
            flags=own[:, c.R_FLAGS].long(),
            numbers=numbers[:, c.R_ENTROPY : c.R_EFFECT + rules].contiguous(),
            inherited=torch.cat(
                [
                    numbers[:, c.R_CONFIDENCE : c.R_CONFIDENCE + 1],
                    numbers[:, c.R_HELD : c.R_HELD + rules],
                    numbers[:, c.R_PLACED : c.R_PLACED + rules],
                ],
                dim=1,
            ),
            alternatives=record.likeliest[detailed].long() if detailed else None,
            probabilities=record.probabilities[detailed] if detailed else None,
            certainty=record.certainty[detailed] if detailed else None,
        )


def step(
    slots: PolicySlots, slot_of_row: Sequence[int], generated: Sequence[int], last_tokens: Sequence[int], logits: Tensor
) -> Record:
    """One step of [rows, vocabulary] logits, in place: of each row, its request's slot (NONE: no policy), how many
    tokens are generated before it, and the last of them."""
    positions, prompt_lens = torch.tensor(generated) - 1, torch.zeros(len(slots.has_policy_at), dtype=torch.int32)
    batch = Batch(torch.tensor(slot_of_row, dtype=torch.int32), positions, torch.tensor(last_tokens), prompt_lens)
    rows = [row for row, slot in enumerate(slot_of_row) if slot != c.NONE]
    return Record.of(slots.step(batch, logits), rows, slots.wanted.rules)


class Run:
    """Requests that are generated together.

    A request's slot is its number, and it is added when it is first stepped.
    """

    def __init__(self, *requests: Request, vocabulary: int = TARGET.vocabulary.size) -> None:
        self.requests = requests
        self.slots = PolicySlots(len(requests), vocabulary, CPU)
        self.added: set[int] = set()

    def step(self, logits: Tensor, generated: Sequence[list[int]], batch: Sequence[int] | None = None) -> Record:
        """One step, which changes the [batch, vocabulary] logits; `generated[i]` is what request i has so far.

        `batch` names the request in each row, by default all of them; at least one has a policy.
        """
        batch = range(len(self.requests)) if batch is None else batch
        for number in batch:
            if number not in self.added and self.requests[number].program is not None:
                request = self.requests[number]
                payload = msgspec.structs.replace(request.payload(), handle=number + 1)
                self.slots.add(number, payload, request.temperature, generated[number])
                self.added.add(number)
        slots = [number if number in self.added else c.NONE for number in batch]
        own = [generated[number] for number in batch]
        return step(self.slots, slots, [len(one) for one in own], [one[-1] if one else 0 for one in own], logits)


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
