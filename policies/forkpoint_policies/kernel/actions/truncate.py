"""Truncation: top-p, min-p, top-h, top-n-sigma and their like."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.compile.program import Action
from forkpoint_policies.kernel.batch import Stage
from forkpoint_policies.kernel.signals import stable_sum, weight_at

from .work import Work, strength

TOP_H_TOKENS = 100


def truncate(work: Work, stage: Stage, rows: Tensor) -> None:
    """Mask all but the tokens at or above a limit; tokens that tie with the last one stay."""
    part, fired = work.values.index_select(0, rows), work.decision.fired[rows, stage.rule]
    temperature, size = work.layout.temperature[rows], strength(work, stage, rows)
    peak, total = work.peak[rows], work.total[rows]
    if stage.action == Action.LIKELIEST:
        kept = torch.zeros_like(part, dtype=torch.bool).scatter_(1, part.argmax(dim=-1, keepdim=True), True)
    else:
        kept = part >= _limit(stage, part, size, peak, total, temperature)[:, None]
    kept |= ~fired[:, None] | (part == -torch.inf).all(dim=-1, keepdim=True)
    part = part.masked_fill_(~kept, -torch.inf)
    work.effects[rows, stage.rule] = (1 - weight_at(part, peak, temperature) / total).clamp_(min=0.0) * fired
    work.values.index_copy_(0, rows, part)


def _limit(stage: Stage, values: Tensor, size: Tensor, peak: Tensor, total: Tensor, temperature: Tensor) -> Tensor:
    """The smallest logit that stays in each row."""
    action = stage.action
    if action == Action.MIN_P:
        return peak + temperature * size.log()
    if action == Action.TOP_N_SIGMA:
        return peak - size * deviation(values, peak)
    if action == Action.P_LESS:  # p >= sum p^2, in logits; the likeliest token stays, whatever the rounding
        squares = weight_at(values, peak, temperature / 2)
        return torch.minimum(peak, peak + temperature * (squares / total).log())
    if action == Action.TOP_K:
        return values.topk(min(stage.keep, values.shape[1]), dim=-1).values[:, -1]
    top = values.sort(dim=-1, descending=True).values if action == Action.TOP_P else _top(values)
    logs = (top - peak[:, None]) / temperature[:, None] - total.log()[:, None]
    share = logs.exp()
    if action == Action.TOP_P:
        wanted = (share.cumsum(dim=-1) - share < size[:, None]).sum(dim=-1)
    else:
        whole = _entropy(values, temperature)
        mass = share.cumsum(dim=-1)
        kept = mass.log() - torch.where(share > 0, share * logs, 0.0).cumsum(dim=-1) / mass
        wanted = (kept <= size[:, None] * whole[:, None]).int().cumprod(dim=-1).sum(dim=-1)
    return top.gather(1, (wanted - 1).clamp(min=0)[:, None]).squeeze(1)


def deviation(values: Tensor, peak: Tensor) -> Tensor:
    """The standard deviation of each row's possible logits."""
    possible = values > -torch.inf
    count = possible.sum(dim=-1).clamp(min=1)
    depth = torch.where(possible, values - peak[:, None], 0.0)
    spread = torch.where(possible, depth - (stable_sum(depth) / count)[:, None], 0.0)
    return (stable_sum(spread * spread) / count).sqrt()


def _top(values: Tensor) -> Tensor:
    return values.topk(min(TOP_H_TOKENS, values.shape[1]), dim=-1).values


def _entropy(values: Tensor, temperature: Tensor) -> Tensor:
    logs = torch.log_softmax(values / temperature[:, None], dim=-1)
    return -torch.where(logs > -torch.inf, logs.exp() * logs, 0.0).sum(dim=-1)
