"""Placebos of token sets: the same change on tokens sampled from the seed."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.kernel.batch import Stage
from forkpoint_policies.kernel.numerics import uniform

from .work import MAX_EXPONENT, Work, of_stage

PLACEBO_TOKENS = 256
_SHUFFLE = 1 << 20  # a salt beyond those of the decisions; each rule and token adds to it
_CERTAIN = 1 - 1e-6


def displace(work: Work, stage: Stage, rows: Tensor, before: Tensor) -> None:
    """The placebo matched by probability: undo the action, and move as much probability between other tokens and the
    rest.

    The other tokens are taken in random order from the PLACEBO_TOKENS likeliest ones that the action leaves as they
    are, until they have the probability that the action's tokens had; one bias on all of them then changes theirs by as
    much, if they have as much.
    """
    temperature = work.layout.temperature[rows][:, None]
    after = work.values.index_select(0, rows)
    touched = (after != before) & (before > -torch.inf)
    shares = torch.softmax(before / temperature, dim=-1)
    had = (shares * touched).sum(dim=-1)
    has = (torch.softmax(after / temperature, dim=-1) * touched).sum(dim=-1)
    top, tokens = _likeliest(torch.where(touched, 0.0, shares))
    order = _chance(work, stage, rows, tokens).argsort(dim=-1)
    top, tokens = top.gather(1, order), tokens.gather(1, order)
    mass = top.cumsum(dim=-1)
    taken = ((mass - top) < had[:, None]) & (top > 0)
    held = (top * taken).sum(dim=-1)
    wanted = (held + has - had).clamp(min=0.0, max=_CERTAIN)
    bias = temperature[:, 0] * (torch.logit(wanted) - torch.logit(held.clamp(max=_CERTAIN)))
    fired = work.decision.fired[rows, stage.rule] & (had > 0)
    change = torch.where(taken & fired[:, None], bias[:, None], 0.0)
    work.effects[rows, stage.rule] = torch.where(fired, (wanted - held).abs(), 0.0)
    work.values.index_copy_(0, rows, before.scatter_add_(1, tokens, change))


def spread(work: Work, stage: Stage, rows: Tensor, before: Tensor) -> None:
    """The placebo matched by dose: undo the action, and move the logits of other tokens apart.

    Of the PLACEBO_TOKENS likeliest tokens that the action leaves as they are, each is raised or lowered by half the
    spread, at random. Together they keep their probability, so that the action's own tokens keep theirs.
    """
    temperature = work.layout.temperature[rows][:, None]
    own = (work.values.index_select(0, rows) != before) & (before > -torch.inf)
    top, tokens = _likeliest(torch.where(own, 0.0, torch.softmax(before / temperature, dim=-1)))
    assert stage.spread is not None
    half = of_stage(stage, stage.spread, rows)[:, None] / 2
    bias = torch.where(_chance(work, stage, rows, tokens) < 0.5, half, -half)
    factor = (bias / temperature).clamp(min=-MAX_EXPONENT, max=MAX_EXPONENT).exp()
    tiny = torch.finfo(torch.float32).tiny
    mean = ((top * factor).sum(dim=-1, keepdim=True) / top.sum(dim=-1, keepdim=True).clamp(min=tiny)).clamp(min=tiny)
    fired = work.decision.fired[rows, stage.rule][:, None]
    change = torch.where(fired & (top > 0), bias - temperature * mean.log(), 0.0)
    work.effects[rows, stage.rule] = torch.where(fired, top * (factor / mean - 1).abs(), 0.0).sum(dim=-1) / 2
    work.values.index_copy_(0, rows, before.scatter_add_(1, tokens, change))


def _likeliest(shares: Tensor) -> tuple[Tensor, Tensor]:
    """The PLACEBO_TOKENS largest shares of each row, and their tokens."""
    largest = shares.topk(min(PLACEBO_TOKENS, shares.shape[1]), dim=-1)
    return largest.values, largest.indices


def _chance(work: Work, stage: Stage, rows: Tensor, tokens: Tensor) -> Tensor:
    """A number in [0, 1) for each of these tokens [k, …] at its row's position."""
    salt = _SHUFFLE * (stage.rule + 1) + tokens
    return uniform(work.layout.seed[rows][:, None], work.decision.position[rows][:, None], salt)
