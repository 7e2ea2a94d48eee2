"""What fired rules do to the logits, and how much that changes what would be sampled.

A rule's effect is the total variation distance between the distributions that would be sampled before and after it, at
the request's temperature: the smallest share of draws that any coupling of the two must change. For requests that take
the likeliest token it is 1 where that token changes, else 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.compile.program import ON_SETS, Action
from forkpoint_policies.kernel.batch import Layout, Stage
from forkpoint_policies.kernel.conditions import Decision, Seen
from forkpoint_policies.kernel.signals import weight_at

from .declared import apply_declared
from .force import write_texts
from .placebo import displace, spread
from .temperature import apply_temperature
from .token_sets import change_set
from .truncate import truncate
from .work import Outcome, Work, acting_rows


def act(values: Tensor, seen: Seen, decision: Decision, layout: Layout) -> Outcome:
    """Change the [n, vocabulary] logits in place, rule by rule in the order of each program."""
    effects = values.new_zeros(decision.fired.shape)
    left_alone = torch.zeros_like(decision.region, dtype=torch.bool)
    likeliest = torch.full_like(layout.slot, -1)
    if layout.greedy is not None:
        likeliest[layout.greedy] = values.index_select(0, layout.greedy).argmax(dim=-1)
    work = Work(values, seen, seen.peak.clone(), seen.total.clone(), likeliest, decision, layout, effects, left_alone)
    for stage in layout.stages:
        rows = acting_rows(stage.rows, decision.fired[:, stage.rule])
        if rows is None or rows.numel():
            _apply(work, stage, rows)
            _note_choice(work, stage)
    if layout.forcing is not None:
        write_texts(work, layout.forcing)
    return Outcome(effects, left_alone)


def _apply(work: Work, stage: Stage, rows: Tensor | None) -> None:
    chosen = torch.arange(len(work.values), device=work.values.device) if rows is None else rows
    if stage.again:
        part = work.values.index_select(0, chosen)
        peak = part.amax(dim=-1)
        work.peak[chosen] = peak = torch.where(peak == -torch.inf, 0.0, peak)
        work.total[chosen] = weight_at(part, peak, work.layout.temperature[chosen])
    before = work.values.index_select(0, chosen) if stage.displaced else None
    if stage.action in ON_SETS:
        change_set(work, stage, rows)
    elif stage.declared:
        apply_declared(work, stage, chosen)
    elif stage.action == Action.TEMPERATURE:
        apply_temperature(work, stage, chosen)
    else:
        truncate(work, stage, chosen)
    if before is not None:
        (displace if stage.spread is None else spread)(work, stage, chosen, before)


def _note_choice(work: Work, stage: Stage) -> None:
    """For the stage's greedy rows, whether it changed the likeliest token."""
    if stage.greedy is None:
        return
    now = work.values.index_select(0, stage.greedy).argmax(dim=-1)
    changed = (now != work.likeliest[stage.greedy]) & work.decision.fired[stage.greedy, stage.rule]
    work.effects[stage.greedy, stage.rule] = changed.float()
    work.likeliest[stage.greedy] = now
