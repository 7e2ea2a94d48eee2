"""What fired rules do to the logits, and how much that changes what would be drawn.

A rule's effect is the total variation distance between the distributions that would be sampled before and after it, at the
request's temperature: the smallest share of draws that any coupling of the two must change. For requests that take the likeliest
token it is 1 where that token changes, else 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from forkpoint_policies.compile.program import ON_SETS, Action
from forkpoint_policies.kernel.batch import Given, Layout, Stage
from forkpoint_policies.kernel.conditions import Decision, Seen, set_sum
from forkpoint_policies.kernel.device_tables import belongs
from forkpoint_policies.kernel.numerics import LOWEST_TEMPERATURE, evaluate, uniform
from forkpoint_policies.kernel.signals import total_variation, weight_at

HIGHEST_EXPONENT = 60.0  # a bias that lifts a token this far has taken all the probability: e^60 is all but e^61
TOP_H_TOKENS = 100
PLACEBO_TOKENS = 256
_SHUFFLE = 1 << 20  # a salt beyond those of the decisions; each rule and token adds to it
_CERTAIN = 1 - 1e-6
_NEARLY_ALL = 0.999


@dataclass(frozen=True)
class Outcome:
    """`effects` is [n, R] float32; `left_alone`: rows [n] in which masks would have left no token, and did nothing."""

    effects: Tensor
    left_alone: Tensor


def act(values: Tensor, seen: Seen, decision: Decision, layout: Layout) -> Outcome:
    """Change the [n, vocabulary] logits in place, rule by rule in the order of each program."""
    effects = values.new_zeros(decision.fired.shape)
    left_alone = torch.zeros_like(decision.in_reasoning)
    likeliest = torch.full_like(layout.slot, -1)
    if layout.greedy is not None:
        likeliest[layout.greedy] = values.index_select(0, layout.greedy).argmax(dim=-1)
    work = _Work(values, seen, seen.peak.clone(), seen.total.clone(), likeliest, decision, layout, effects, left_alone)
    for stage in layout.stages:
        rows = _acting(stage.rows, decision.fired[:, stage.rule])
        if rows is None or rows.numel():
            _apply(work, stage, rows)
            _note_choice(work, stage)
    if layout.forcing is not None:
        _write_texts(work, layout.forcing)
    return Outcome(effects, left_alone)


@dataclass(frozen=True)
class _Work:
    values: Tensor
    seen: Seen
    peak: Tensor  # [n] the largest logit, as far as it was measured anew
    total: Tensor  # [n] Σ e^((logit - peak) / temperature)
    likeliest: Tensor  # [n] the token of greedy rows, as far as rules changed it; -1 elsewhere
    decision: Decision
    layout: Layout
    effects: Tensor
    left_alone: Tensor


def _acting(rows: Tensor | None, fired: Tensor) -> Tensor | None:
    """Which of a stage's rows there is anything to do in. On a GPU all of them, as to know would mean to wait for it."""
    if fired.is_cuda:
        return rows
    chosen = fired if rows is None else fired[rows]
    if bool(chosen.all()):
        return rows
    return chosen.nonzero().squeeze(1) if rows is None else rows[chosen]


def _apply(work: _Work, stage: Stage, rows: Tensor | None) -> None:
    chosen = torch.arange(len(work.values), device=work.values.device) if rows is None else rows
    if stage.again:
        part = work.values.index_select(0, chosen)
        peak = part.amax(dim=-1)
        work.peak[chosen] = peak = torch.where(peak == -torch.inf, 0.0, peak)
        work.total[chosen] = weight_at(part, peak, work.layout.temperature[chosen])
    before = work.values.index_select(0, chosen) if stage.displaced else None
    if stage.action in ON_SETS:
        _change_set(work, stage, rows)
    elif stage.action == Action.TEMPERATURE:
        _heat(work, stage, chosen)
    else:
        _truncate(work, stage, chosen)
    if before is not None:
        _displace(work, stage, chosen, before)


def _within(stage: Stage, values: Tensor, rows: Tensor) -> Tensor:
    """Of what is kept per row of a stage, the entries of these rows of the batch."""
    return values[rows] if stage.rows is None else values[torch.searchsorted(stage.rows, rows)]


def _strength(work: _Work, stage: Stage, rows: Tensor) -> Tensor:
    decision = work.decision
    entropy = work.seen.entropy[rows]
    if decision.past_entropy is not None:
        entropy = torch.where(work.layout.by_chance[rows, stage.rule], decision.past_entropy[rows], entropy)
    return evaluate(_within(stage, stage.strength, rows), decision.position[rows], entropy)


def _change_set(work: _Work, stage: Stage, rows: Tensor | None) -> None:
    """Mask or bias a set of tokens. With q the set's probability and q' that afterwards, the effect is |q' - q|."""
    every = torch.arange(len(work.values), device=work.values.device) if rows is None else rows
    at, states = _within(stage, stage.at, every), _within(stage, stage.states, every)
    temperature, peak, total = (one[every] for one in (work.layout.temperature, work.peak, work.total))
    flat = work.values.view(-1)
    chosen = flat.take(at)
    counts = belongs(states, work.decision.word_state[every]) & work.decision.fired[every, stage.rule][:, None]
    if stage.action == Action.MASK:
        emptied = _would_empty(work, every, at, chosen, counts, work.peak[every])
        work.left_alone[every] |= emptied
        counts &= ~emptied[:, None]
        change = torch.full_like(peak, -torch.inf)
    else:
        change = _strength(work, stage, every)
    depth = (chosen - peak[:, None]) / temperature[:, None]
    before = set_sum(torch.where(counts, depth.clamp(max=HIGHEST_EXPONENT).exp(), 0.0))
    lifted = depth + (change / temperature)[:, None]
    after = set_sum(torch.where(counts, lifted.clamp(max=HIGHEST_EXPONENT).exp(), 0.0))
    flat.scatter_add_(0, at.flatten(), torch.where(counts, change[:, None], 0.0).flatten())
    new_total = (total - before + after).clamp_(min=torch.finfo(torch.float32).tiny)
    if stage.action != Action.MASK:
        _measure_small(work, every, new_total, (before > _NEARLY_ALL * total) & (change < 0))
    work.effects[every, stage.rule] = ((after / new_total).clamp_(max=1.0) - (before / total).clamp_(max=1.0)).abs_()


def _measure_small(work: _Work, rows: Tensor, totals: Tensor, small: Tensor) -> None:
    """Totals of which nearly all was taken, summed anew: as a difference they would be rounding errors."""
    few = _acting(None, small)
    if few is not None and not few.numel():
        return
    few = torch.arange(len(rows), device=rows.device) if few is None else few
    part = work.values.index_select(0, rows[few])
    totals[few] = weight_at(part, work.peak[rows[few]], work.layout.temperature[rows[few]])


def _would_empty(work: _Work, rows: Tensor, at: Tensor, chosen: Tensor, counts: Tensor, peak: Tensor) -> Tensor:
    """Rows in which nothing is left after these tokens. Only where the likeliest goes can that be."""
    doubtful = torch.where(counts, chosen, -torch.inf).amax(dim=-1) >= peak if at.shape[1] else None
    emptied = torch.zeros_like(rows, dtype=torch.bool)
    if doubtful is None:
        return emptied
    few = _acting(None, doubtful)
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


def _heat(work: _Work, stage: Stage, rows: Tensor) -> None:
    factor = torch.where(work.decision.fired[rows, stage.rule], _strength(work, stage, rows).clamp(min=LOWEST_TEMPERATURE), 1.0)
    part, scale = work.values.index_select(0, rows), work.layout.temperature[rows]
    work.effects[rows, stage.rule] = total_variation(part, scale, scale * factor)
    work.values.index_copy_(0, rows, part.div_(factor[:, None]))


def _truncate(work: _Work, stage: Stage, rows: Tensor) -> None:
    """Mask all but the tokens at or above a limit; tokens that tie with the last kept one are kept."""
    part, fired = work.values.index_select(0, rows), work.decision.fired[rows, stage.rule]
    temperature, size = work.layout.temperature[rows], _strength(work, stage, rows)
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
    """The smallest logit that is kept in each row."""
    action = stage.action
    if action == Action.MIN_P:
        return peak + temperature * size.log()
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


def _top(values: Tensor) -> Tensor:
    return values.topk(min(TOP_H_TOKENS, values.shape[1]), dim=-1).values


def _entropy(values: Tensor, temperature: Tensor) -> Tensor:
    logs = torch.log_softmax(values / temperature[:, None], dim=-1)
    return -torch.where(logs > -torch.inf, logs.exp() * logs, 0.0).sum(dim=-1)


def _displace(work: _Work, stage: Stage, rows: Tensor, before: Tensor) -> None:
    """The placebo matched by probability: undo the action, and move as much probability between other tokens and the rest.

    The other tokens are taken in random order from the PLACEBO_TOKENS likeliest ones that the action leaves as they are, until they
    have the probability that the action's tokens had; one bias on all of them then changes theirs by as much, if they have as much.
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


def _note_choice(work: _Work, stage: Stage) -> None:
    """For the stage's greedy rows, whether it changed the likeliest token."""
    if stage.greedy is None:
        return
    now = work.values.index_select(0, stage.greedy).argmax(dim=-1)
    changed = (now != work.likeliest[stage.greedy]) & work.decision.fired[stage.greedy, stage.rule]
    work.effects[stage.greedy, stage.rule] = changed.float()
    work.likeliest[stage.greedy] = now


def _write_texts(work: _Work, forcing: Tensor) -> None:
    """Leave only the forced token; and where a rule stands in for tokens that are not to be drawn here, take those away."""
    layout, decision = work.layout, work.decision
    assert decision.forced is not None
    assert decision.token is not None
    for stage in layout.shutting:
        assert decision.shut is not None
        assert decision.replaced is not None
        rows = torch.arange(len(work.values), device=work.values.device) if stage.rows is None else stage.rows
        counts = belongs(stage.states, decision.word_state[rows]) & decision.shut[rows, stage.rule][:, None]
        peak = work.values.index_select(0, rows).amax(dim=-1)
        emptied = _would_empty(work, rows, stage.at, work.values.view(-1).take(stage.at), counts, peak)
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


def write_given(values: Tensor, position: Tensor, given: Given) -> None:
    """Leave only the token that a given text has at each position [n], in its rows; beyond its end nothing is done."""
    place = position[given.rows] - given.begun
    inside = (place >= 0) & (place < given.tokens.shape[1])
    token = given.tokens.gather(1, torch.where(inside, place, 0)[:, None])
    here = inside[:, None] & (token >= 0)
    part = values.index_select(0, given.rows)
    certain = torch.full_like(part, -torch.inf).scatter_(1, token.clamp(min=0), 0.0)
    values.index_copy_(0, given.rows, torch.where(here, certain, part))
