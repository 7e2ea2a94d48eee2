"""Temperature: divide the logits."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.kernel.batch import Stage
from forkpoint_policies.kernel.numerics import MIN_TEMPERATURE
from forkpoint_policies.kernel.signals import total_variation

from .work import Work, strength


def apply_temperature(work: Work, stage: Stage, rows: Tensor) -> None:
    factor = torch.where(
        work.decision.fired[rows, stage.rule], strength(work, stage, rows).clamp(min=MIN_TEMPERATURE), 1.0
    )
    part, scale = work.values.index_select(0, rows), work.layout.temperature[rows]
    work.effects[rows, stage.rule] = total_variation(part, scale, scale * factor)
    work.values.index_copy_(0, rows, part.div_(factor[:, None]))
