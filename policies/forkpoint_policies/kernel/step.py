"""The step: measure every row, decide which rules fire, change the logits, and write down what was done.

Everything is vectorised over rows × rules and stays on the device. A row gets the same bits in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from forkpoint_policies.compile import regions
from forkpoint_policies.kernel.actions.apply import act
from forkpoint_policies.kernel.actions.force import write_forced_tokens

from .batch import Layout
from .conditions import Decision, Seen, decide, look
from .record_flags import FORCED, IN_REASONING, LEFT_ALONE, REFUSED, RULES_SHIFT
from .signals import measure
from .state import Slots, advance

NO_POSITION = -1


@dataclass(frozen=True)
class Rows:
    """One step: for each row of the layout, the number of generated tokens and the last one (any id at position 0)."""

    layout: Layout
    position: Tensor  # [n] int64
    last_token: Tensor  # [n] int64
    hidden: Tensor | None = None  # [n, native.columns.NUM_HIDDEN] float32, as in Batch


@dataclass(frozen=True)
class Record:
    """What the step saw and did. `flags` has the bits of record_flags; DRAFT is added when the record is sent.

    Rules are in the program's order, the order of application.
    """

    position: Tensor  # [n] int64, NO_POSITION where nothing will be sampled
    last_token: Tensor  # [n] int64, the token that the row comes after
    flags: Tensor  # [n] int64
    numbers: Tensor  # [n, 4 + R] float32: entropy, varentropy, top probability, connector mass, effect per rule
    alternatives: Tensor | None  # [detailed, k] int64
    probabilities: Tensor | None  # [detailed, k] float32; below 0 where the policy took the token away
    certainty: Tensor | None = None  # [detailed] float32 nats, for trees: as in _self_certainty
    inherited: Tensor | None = None  # [n, 1 + 2 R] float32: confidence in nats, and per rule what Chances sums up

    @property
    def num_rules(self) -> int:
        """R."""
        return self.numbers.shape[1] - 4


def step(slots: Slots, rows: Rows, logits: Tensor) -> Record:
    """Apply each row's policy to the [batch, vocabulary] float32 logits, in place, and advance the slots."""
    layout = rows.layout
    values = logits.contiguous() if layout.rows is None else logits.index_select(0, layout.rows)
    seen = look(values, measure(values), layout, rows.hidden)
    alternatives, probabilities = _likeliest(values, seen, layout)
    certainty = _self_certainty(values, seen, layout)
    decision = _decide_all(slots, rows, values, seen)

    unchanged = values.index_select(0, layout.shadow) if layout.shadow is not None else None
    outcome = act(values, seen, decision, layout)
    if unchanged is not None and layout.shadow is not None:
        values.index_copy_(0, layout.shadow, unchanged)
    left = _left(values, alternatives, probabilities, layout)
    if layout.forced_tokens is not None:
        write_forced_tokens(values, decision.position, layout.forced_tokens)
    if layout.rows is not None:
        logits.index_copy_(0, layout.rows, values)
    elif values is not logits:
        logits.copy_(values)
    shown = decision.mass.amax(dim=-1) if decision.mass.shape[1] else torch.zeros_like(seen.entropy)
    heads = torch.stack((seen.entropy, seen.varentropy, seen.top_probability, shown), dim=1)
    return Record(
        position=decision.position,
        last_token=rows.last_token,
        flags=_flags(decision, outcome.left_alone),
        numbers=torch.cat((heads, outcome.effects), dim=1),
        alternatives=alternatives,
        probabilities=left,
        certainty=certainty,
        inherited=_inherited(seen, decision) if layout.uses.branches or layout.uses.chances else None,
    )


def _decide_all(slots: Slots, rows: Rows, values: Tensor, seen: Seen) -> Decision:
    """The decisions of all rows: those after the committed tokens first, then those after each further draft token."""
    layout, made = rows.layout, []
    offset = layout.num_shared_tokens
    generated = rows.position if offset is None else rows.position + offset
    for one in rows.layout.turns:
        state, position, idle = advance(slots, layout, one, one.of(generated), one.of(rows.last_token))
        decision, pending = decide(state, seen, values, layout, one, position)
        cell = one.first_cell + one.offset
        if idle is not None:
            cell = torch.where(idle, slots.spare, cell)
            decision = replace(decision, position=torch.where(idle, NO_POSITION, position))
        slots.write(cell, pending)
        made.append(decision)
    if len(made) == 1:
        return made[0]
    order = torch.cat([one.rows for one in layout.turns if one.rows is not None]).argsort()
    parts: dict[str, Any] = {
        part.name: [getattr(decision, part.name) for decision in made] for part in fields(Decision)
    }
    whole: dict[str, Any] = {name: None if some[0] is None else torch.cat(some)[order] for name, some in parts.items()}
    return Decision(**whole)


def _left(values: Tensor, tokens: Tensor | None, probabilities: Tensor | None, layout: Layout) -> Tensor | None:
    """The probabilities, negative where the token can no longer be sampled."""
    if tokens is None or probabilities is None or layout.detailed is None:
        return None
    return torch.where(
        values.index_select(0, layout.detailed).gather(1, tokens) > -torch.inf, probabilities, -probabilities
    )


def _inherited(seen: Seen, decision: Decision) -> Tensor:
    """What a branch that starts here could not work out from the rest of the record."""
    rows, rules = decision.fired.shape
    confidence = torch.zeros_like(seen.entropy) if seen.confidence is None else seen.confidence
    told = seen.entropy.new_zeros(rows, 2, rules) if decision.told is None else decision.told
    return torch.cat((confidence[:, None], told.flatten(1)), dim=1)


def _flags(decision: Decision, left_alone: Tensor) -> Tensor:
    places = torch.arange(RULES_SHIFT, RULES_SHIFT + decision.fired.shape[1], device=left_alone.device)
    flags = (
        (decision.fired.long() << places).sum(dim=-1)
        + (decision.region & regions.IN_REASONING) * IN_REASONING
        + left_alone * LEFT_ALONE
    )
    if decision.forced is not None and decision.refused is not None:
        flags += (decision.forced >= 0) * FORCED + decision.refused * REFUSED
    return flags


def _likeliest(values: Tensor, seen: Seen, layout: Layout) -> tuple[Tensor | None, Tensor | None]:
    if layout.detailed is None:
        return None, None
    top, tokens = values.index_select(0, layout.detailed).topk(min(layout.alternatives, values.shape[1]), dim=-1)
    peak, total = seen.peak[layout.detailed, None], seen.raw_total[layout.detailed, None]
    return tokens, (top - peak).exp() / total


def _self_certainty(values: Tensor, seen: Seen, layout: Layout) -> Tensor | None:
    """[detailed] nats: the divergence KL(U ‖ p) of the uniform distribution over the tokens that are allowed from the
    model's own, -1/V Σ ln(V p) (arXiv:2502.18581)."""
    if layout.detailed is None or not layout.uses.branches:
        return None
    logits = values.index_select(0, layout.detailed)
    allowed = logits > -torch.inf
    size = allowed.sum(dim=-1).clamp_(min=1)
    # in float64, so that a row's bits do not depend on how the sum of a batch is split
    mean = logits.masked_fill_(~allowed, 0.0).sum(dim=-1, dtype=torch.float64) / size
    peak, total = seen.peak.index_select(0, layout.detailed), seen.raw_total.index_select(0, layout.detailed)
    certainty: Tensor = (total.double().log() + peak - mean - size.double().log()).float()
    return certainty
