"""What the actions of one step share: the logits, what was measured of them, and the effects so far."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forkpoint_policies.kernel.batch import Layout, Stage
from forkpoint_policies.kernel.conditions import Decision, Seen
from forkpoint_policies.kernel.numerics import evaluate

MAX_EXPONENT = 60.0  # a bias that lifts a token this far has taken all the probability: e^60 is all but e^61
NEARLY_ALL = 0.999


@dataclass(frozen=True)
class Outcome:
    """`effects` is [n, R] float32; `left_alone`: rows [n] in which masks would have left no token, and did nothing."""

    effects: Tensor
    left_alone: Tensor


@dataclass(frozen=True)
class Work:
    values: Tensor
    seen: Seen
    peak: Tensor  # [n] the largest logit, as far as it was measured anew
    total: Tensor  # [n] Σ e^((logit - peak) / temperature)
    likeliest: Tensor  # [n] the token of greedy rows, as far as rules changed it; -1 elsewhere
    decision: Decision
    layout: Layout
    effects: Tensor
    left_alone: Tensor


def acting_rows(rows: Tensor | None, fired: Tensor) -> Tensor | None:
    """Which of a stage's rows there is anything to do in.

    On a GPU all of them, as to know would mean to wait for it.
    """
    if fired.is_cuda:
        return rows
    chosen = fired if rows is None else fired[rows]
    if bool(chosen.all()):
        return rows
    return chosen.nonzero().squeeze(1) if rows is None else rows[chosen]


def of_stage(stage: Stage, values: Tensor, rows: Tensor) -> Tensor:
    """Of the entries per row of a stage, those of these rows of the batch."""
    return values[rows] if stage.rows is None else values[torch.searchsorted(stage.rows, rows)]


def entropy_at(work: Work, stage: Stage, rows: Tensor) -> Tensor:
    """The entropy that an action depends on: the model's; for a placebo by chance, one of the request's past."""
    entropy, past = work.seen.entropy[rows], work.decision.past_entropy
    return entropy if past is None else torch.where(work.layout.by_chance[rows, stage.rule], past[rows], entropy)


def strength(work: Work, stage: Stage, rows: Tensor) -> Tensor:
    return evaluate(of_stage(stage, stage.strength, rows), work.decision.position[rows], entropy_at(work, stage, rows))
