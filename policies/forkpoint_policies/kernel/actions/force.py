"""Forced tokens: texts of rules, and tokens sent with the request."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.kernel.batch import ForcedRows
from forkpoint_policies.kernel.device_rules import belongs
from forkpoint_policies.kernel.sampled_range import mask_impossible

from .token_sets import would_empty
from .work import Work


def write_texts(work: Work, forcing: Tensor) -> None:
    """Leave only the forced token; and where a rule replaces tokens that must not be sampled here, mask those."""
    layout, decision = work.layout, work.decision
    assert decision.forced is not None
    assert decision.token is not None
    # what the limits exclude stays so when others are masked
    if layout.limited is not None and decision.shut is not None:
        mask_impossible(work.values, decision.shut.any(dim=-1), layout.limited)
    for stage in layout.shutting:
        assert decision.shut is not None
        assert decision.replaced is not None
        rows = torch.arange(len(work.values), device=work.values.device) if stage.rows is None else stage.rows
        counts = belongs(stage.states, decision.word_state[rows]) & decision.shut[rows, stage.rule][:, None]
        peak = work.values.index_select(0, rows).amax(dim=-1)
        emptied = would_empty(work, rows, stage.at, work.values.view(-1).take(stage.at), counts, peak)
        work.left_alone[rows] |= emptied
        counts &= ~emptied[:, None]
        work.values.view(-1).scatter_add_(0, stage.at.flatten(), torch.where(counts, -torch.inf, 0.0).flatten())
        met = decision.shut[rows, stage.rule] | (decision.fired[rows, stage.rule])
        work.effects[rows, stage.rule] = torch.where(met, decision.replaced[rows, stage.rule], 0.0)
    forced = decision.forced >= 0
    rows = forcing if forced.is_cuda else forcing[forced[forcing]]
    if not rows.numel():
        return
    part, here = work.values.index_select(0, rows), forced[rows]
    token, rule = decision.token[rows][:, None], decision.forced[rows].clamp(min=0)[:, None]
    share = torch.softmax(part / layout.temperature[rows][:, None], dim=-1).gather(1, token).nan_to_num(0.0)
    certain = torch.full_like(part, -torch.inf).scatter_(1, token, 0.0)
    work.values.index_copy_(0, rows, torch.where(here[:, None], certain, part))
    likeliest = work.likeliest[rows][:, None]
    changed = torch.where(likeliest >= 0, (likeliest != token).float(), 1 - share)
    effects = work.effects[rows]
    own = torch.where(here[:, None] & ~layout.instead[rows].gather(1, rule), changed, effects.gather(1, rule))
    work.effects[rows] = effects.scatter(1, rule, own)


def write_forced_tokens(values: Tensor, position: Tensor, forced: ForcedRows) -> None:
    """In their rows, leave only the forced token of each position [n]; beyond the last one, change nothing."""
    place = position[forced.rows] - forced.start
    inside = (place >= 0) & (place < forced.tokens.shape[1])
    token = forced.tokens.gather(1, torch.where(inside, place, 0)[:, None])
    here = inside[:, None] & (token >= 0)
    part = values.index_select(0, forced.rows)
    certain = torch.full_like(part, -torch.inf).scatter_(1, token.clamp(min=0), 0.0)
    values.index_copy_(0, forced.rows, torch.where(here, certain, part))
