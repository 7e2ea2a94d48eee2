"""Replays a named policy over a scripted sequence of distributions and tokens, on the real kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.kernel.record_flags import FORCED
from forkpoint_policies.library import LIBRARY
from tests.unit.policies.factories import Request, Run, fired
from tests.unit.policies.vocabularies import TARGET


@dataclass(frozen=True)
class Step:
    """One position of a replay: the logits before and after the policy, and which of its rules fired."""

    before: Tensor  # [vocabulary]
    after: Tensor  # [vocabulary]
    fired: list[int]  # by index in the program
    forced: bool

    @property
    def banned(self) -> set[int]:
        """The tokens that can no longer be sampled."""
        return set(((self.after == -torch.inf) & (self.before > -torch.inf)).nonzero().flatten().tolist())

    @property
    def left(self) -> list[int]:
        """The tokens that can still be sampled."""
        return (self.after > -torch.inf).nonzero().flatten().tolist()

    @property
    def biases(self) -> dict[int, float]:
        """By token, how far its logit was moved."""
        moved = (self.after != self.before).nonzero().flatten().tolist()
        return {one: float(self.after[one] - self.before[one]) for one in moved}


def replay(
    name: str,
    logits: Sequence[Tensor],
    tokens: Sequence[int],
    target: ServedModel = TARGET,
    options: dict[str, Any] | None = None,
    **request: Any,
) -> list[Step]:
    """The steps of a request with this policy: at position i it sees `logits[i]`, and then `tokens[i]` is sampled."""
    program = compile_policy(LIBRARY[name].use(options or {}), target).program
    run = Run(Request(program, **request), vocabulary=target.vocabulary.size)
    steps = []
    for position, before in enumerate(logits):
        after = before[None].clone()
        record = run.step(after, [list(tokens[:position])])
        steps.append(Step(before, after[0], fired(record), bool(int(record.flags[0]) & FORCED)))
    return steps
