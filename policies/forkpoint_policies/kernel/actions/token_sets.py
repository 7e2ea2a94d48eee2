"""Suppress and amplify: a bias on a set of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.compile.program import Action
from forkpoint_policies.kernel.batch import Stage
from forkpoint_policies.kernel.conditions import set_sum
from forkpoint_policies.kernel.device_rules import belongs
from forkpoint_policies.kernel.signals import weight_at

from .work import MAX_EXPONENT, NEARLY_ALL, Work, acting_rows, of_stage, strength


def change_set(work: Work, stage: Stage, rows: Tensor | None) -> None:
    """Mask or bias a set of tokens. With q the set's probability and q' that afterwards, the effect is |q' - q|."""
    every = torch.arange(len(work.values), device=work.values.device) if rows is None else rows
    at, states = of_stage(stage, stage.at, every), of_stage(stage, stage.states, every)
    temperature, peak, total = (one[every] for one in (work.layout.temperature, work.peak, work.total))
    flat = work.values.view(-1)
    chosen = flat.take(at)
    counts = belongs(states, work.decision.word_state[every]) & work.decision.fired[every, stage.rule][:, None]
    if stage.action == Action.MASK:
        emptied = would_empty(work, every, at, chosen, counts, work.peak[every])
        work.left_alone[every] |= emptied
        counts &= ~emptied[:, None]
        change = torch.full_like(peak, -torch.inf)
    else:
        change = strength(work, stage, every)
    depth = (chosen - peak[:, None]) / temperature[:, None]
    before = set_sum(torch.where(counts, depth.clamp(max=MAX_EXPONENT).exp(), 0.0))
    lifted = depth + (change / temperature)[:, None]
    after = set_sum(torch.where(counts, lifted.clamp(max=MAX_EXPONENT).exp(), 0.0))
    flat.scatter_add_(0, at.flatten(), torch.where(counts, change[:, None], 0.0).flatten())
    new_total = (total - before + after).clamp_(min=torch.finfo(torch.float32).tiny)
    if stage.action != Action.MASK:
        _measure_small(work, every, new_total, (before > NEARLY_ALL * total) & (change < 0))
    work.effects[every, stage.rule] = ((after / new_total).clamp_(max=1.0) - (before / total).clamp_(max=1.0)).abs_()


def _measure_small(work: Work, rows: Tensor, totals: Tensor, small: Tensor) -> None:
    """Totals of which nearly all was taken, summed anew: as a difference they would be rounding errors."""
    few = acting_rows(None, small)
    if few is not None and not few.numel():
        return
    few = torch.arange(len(rows), device=rows.device) if few is None else few
    part = work.values.index_select(0, rows[few])
    totals[few] = weight_at(part, work.peak[rows[few]], work.layout.temperature[rows[few]])


def would_empty(work: Work, rows: Tensor, at: Tensor, chosen: Tensor, counts: Tensor, peak: Tensor) -> Tensor:
    """Rows in which nothing is left after these tokens. Only where the likeliest goes can that be."""
    doubtful = torch.where(counts, chosen, -torch.inf).amax(dim=-1) >= peak if at.shape[1] else None
    emptied = torch.zeros_like(rows, dtype=torch.bool)
    if doubtful is None:
        return emptied
    few = acting_rows(None, doubtful)
    if few is not None and not few.numel():
        return emptied
    few = torch.arange(len(rows), device=rows.device) if few is None else few
    left = work.values.index_select(0, rows[few])
    begin = torch.arange(len(few), device=rows.device)[:, None] * left.shape[1]
    places = at[few] - (rows[few] * left.shape[1])[:, None] + begin
    left.view(-1).scatter_add_(0, places.flatten(), torch.where(counts[few], -torch.inf, 0.0).flatten())
    some = work.values.index_select(0, rows[few]).amax(dim=-1) > -torch.inf
    emptied[few] = (left.amax(dim=-1) == -torch.inf) & some
    return emptied
