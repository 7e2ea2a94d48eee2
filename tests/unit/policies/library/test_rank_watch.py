"""`rank-watch` marks the positions whose effective rank is above the mean of the earlier ones, and changes nothing."""

from __future__ import annotations

import numpy as np
import torch

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.hidden.effective_rank import effective_rank
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Record, Request, fired, random_logits
from tests.unit.policies.vocabularies import SIZE, TARGET

WINDOW, STRIDE, LENGTH = 8, 4, 40
STATES = (
    torch.randn(LENGTH, 16, generator=torch.Generator().manual_seed(1)) * torch.linspace(0.2, 3, LENGTH)[:, None].sin()
)


def test_rank_watch() -> None:
    ranks, rising = list[float](), False
    wanted = []
    for position in range(LENGTH):
        if position + 1 >= WINDOW and (position + 1) % STRIDE == 0:
            rank = effective_rank(STATES[position + 1 - WINDOW : position + 1])
            rising = bool(ranks) and rank > float(np.mean(ranks))
            ranks.append(rank)
        wanted.append([0] if rising else [])
    assert 0 < wanted.count([0]) < LENGTH - WINDOW

    program = compile_policy(LIBRARY["rank-watch"].use({"window": WINDOW, "stride": STRIDE}), TARGET).program
    slots = PolicySlots(1, SIZE, CPU)
    slots.add(0, Request(program).payload(), 1.0, [])
    found = []
    for position in range(LENGTH):
        batch = Batch(
            torch.zeros(1, dtype=torch.int32), torch.tensor([position - 1]), torch.tensor([0]), torch.zeros(1).int()
        )
        logits = random_logits(1, SIZE, seed=position)
        before = logits.clone()
        found.append(fired(Record.of(slots.step(batch, logits, STATES[position][None]), [0], 1)))
        assert torch.equal(logits, before)
    assert found == wanted
