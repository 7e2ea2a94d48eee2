"""What can be sampled of a row under its request's own min-p, top-k and top-p, which vLLM applies after us."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .sampling_limits import SamplingLimits
from .signals import weight_at


@dataclass(frozen=True)
class LimitedRows:
    """Rows with limits, [k] each."""

    rows: Tensor  # int64
    temperature: Tensor  # float32
    min_p: Tensor  # float32, 0 for none
    top_k: Tensor  # int64, 0 for none
    top_p: Tensor  # float32, 1 for none

    @staticmethod
    def of(chosen: Sequence[tuple[int, float, SamplingLimits]], device: torch.device) -> LimitedRows:
        """Of rows with their temperatures, above 0, and their limits."""

        def tensor(values: Sequence[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        limits = [one for _, _, one in chosen]
        return LimitedRows(
            rows=tensor([row for row, _, _ in chosen], torch.int64),
            temperature=tensor([temperature for _, temperature, _ in chosen], torch.float32),
            min_p=tensor([one.min_p for one in limits], torch.float32),
            top_k=tensor([max(0, one.top_k) for one in limits], torch.int64),
            top_p=tensor([one.top_p for one in limits], torch.float32),
        )


def possible_tokens(values: Tensor, peak: Tensor, total: Tensor, limited: LimitedRows) -> tuple[Tensor, Tensor]:
    """From which of the [n, vocabulary] logits on tokens can be sampled, [n], and Σ e^((logit - peak) / temperature)
    over those, [n], where `total` is that over all."""
    rows = limited.rows
    lowest, total = torch.full_like(total, -torch.inf), total.clone()
    part = values.index_select(0, rows)
    lowest[rows], total[rows] = _possible(part, peak.index_select(0, rows), limited)
    return lowest, total


def mask_impossible(values: Tensor, chosen: Tensor, limited: LimitedRows) -> None:
    """Of the limited rows that are chosen [n], mask the logits of tokens that cannot be sampled, in place."""
    part = values.index_select(0, limited.rows)
    peak = part.amax(dim=-1)
    lowest, _ = _possible(part, torch.where(peak == -torch.inf, 0.0, peak), limited)
    below = (part < lowest[:, None]) & chosen.index_select(0, limited.rows)[:, None]
    values.index_copy_(0, limited.rows, part.masked_fill_(below, -torch.inf))


def _possible(logits: Tensor, peak: Tensor, limited: LimitedRows) -> tuple[Tensor, Tensor]:
    """Each limited row's lowest possible logit, and the weight from it on. The order is vLLM's; tokens that tie with
    the last one count as possible."""
    ordered = logits.sort(dim=-1, descending=True).values
    last = torch.where(limited.top_k > 0, limited.top_k, ordered.shape[1]).clamp_(max=ordered.shape[1]) - 1
    lowest = peak + limited.temperature * limited.min_p.log()
    lowest = torch.maximum(lowest, ordered.gather(1, last[:, None]).squeeze(1))
    weight = ((ordered - peak[:, None]) / limited.temperature[:, None]).exp()
    weight = torch.where(ordered >= lowest[:, None], weight, 0.0)
    total = weight_at(logits.masked_fill(logits < lowest[:, None], -torch.inf), peak, limited.temperature)
    wanted = (weight.cumsum(dim=-1) - weight < (limited.top_p * total)[:, None]).sum(dim=-1).clamp(min=1)
    reached = ordered.gather(1, wanted[:, None] - 1).squeeze(1)
    lowest = torch.where(limited.top_p < 1, torch.maximum(lowest, reached), lowest)
    return lowest, weight_at(logits.masked_fill(logits < lowest[:, None], -torch.inf), peak, limited.temperature)
