"""Placebos of token sets: the same change on tokens sampled from the seed."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.kernel.batch import Stage
from forkpoint_policies.kernel.numerics import uniform

from .work import Work

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
    others = torch.where(touched, 0.0, shares)
    top, tokens = others.topk(min(PLACEBO_TOKENS, others.shape[1]), dim=-1)
    salt = _SHUFFLE * (stage.rule + 1) + tokens
    order = uniform(work.layout.seed[rows][:, None], work.decision.position[rows][:, None], salt).argsort(dim=-1)
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
