"""The distribution that each token is sampled from, for requests that want its log probability.

A logits processor runs before its token is sampled. So a row's distribution is held until the next step shows the
token. After a request's last token there is no next step: then the whole distribution is sent, and the server, which
knows the token, looks its log probability up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forkpoint_policies.kernel.step_types import StepRecord

from .request import Request

Truncate = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]
"""vLLM's truncation: logits [m, vocabulary] with top-k [m] or None and top-p [m] or None applied, perhaps in place."""

IDLE_SECONDS, MAX_IDLE_SECONDS, IDLE_STEPS = 0.05, 0.5, 3
"""After so long without a step, the distributions that are held are sent whole: their requests may have ended. It is
the time of so many steps, within these limits, as a distribution is large and slow steps would send all of them."""


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """The rows of a batch whose requests want log probabilities, with the parameters that they are sampled with."""

    handles: tuple[int, ...]
    addresses: tuple[str, ...]
    rows: Tensor  # [m] int64, rows of the logits
    temperature: Tensor  # [m] float32; 1 for greedy requests, whose log probabilities vLLM too takes there
    min_p: Tensor | None  # [m] float32
    top_k: Tensor | None  # [m] int32
    top_p: Tensor | None  # [m] float32
    detailed: tuple[int, ...]  # which of them have alternatives

    @staticmethod
    def of(rows: Sequence[tuple[int, Request]], vocabulary: int, device: torch.device) -> ScoredRows | None:
        """Of rows of the logits and their requests; None if there are none."""
        limits = [request.payload.limits for _, request in rows]
        if not rows:
            return None

        def tensor(values: Sequence[float], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        top_k = [one.top_k if one.top_k > 0 else vocabulary for one in limits]
        return ScoredRows(
            handles=tuple(request.payload.handle for _, request in rows),
            addresses=tuple(request.payload.address for _, request in rows),
            rows=tensor([row for row, _ in rows], torch.int64),
            temperature=tensor([request.temperature or 1.0 for _, request in rows], torch.float32),
            min_p=tensor([one.min_p for one in limits], torch.float32) if any(one.min_p for one in limits) else None,
            top_k=tensor(top_k, torch.int32) if any(one < vocabulary for one in top_k) else None,
            top_p=tensor([one.top_p for one in limits], torch.float32) if any(o.top_p < 1 for o in limits) else None,
            detailed=tuple(number for number, (_, request) in enumerate(rows) if request.payload.alternatives),
        )


@dataclass(frozen=True)
class SampledTokens:
    """Log probabilities of tokens, [k] each: `position` is the token's, `known_at` that of the step which showed it.

    Only those one position apart are the sampled tokens: a prompt computed in pieces is evaluated several times.
    """

    handles: tuple[int, ...]
    addresses: tuple[str, ...]
    position: Tensor  # [k] int64
    known_at: Tensor  # [k] int64
    token: Tensor  # [k] int64
    logprob: Tensor  # [k] float32


@dataclass(eq=False)
class Held:
    """The distributions of one step, [m, vocabulary] log probabilities."""

    scored: ScoredRows
    position: Tensor  # [m] int64
    logprobs: Tensor  # [m, vocabulary] float32
    ready: torch.cuda.Event | None
    since: float  # of time.monotonic
    sent: bool = False


@dataclass(frozen=True)
class WholeRows:
    """Distributions of a step, by index, that are sent whole."""

    held: Held
    rows: tuple[int, ...]


class LastDistributions:
    """The distributions of the last step."""

    def __init__(self, truncate: Truncate) -> None:
        self._truncate = truncate
        self._held: Held | None = None
        self._patience_seconds = IDLE_SECONDS

    def advance(self, record: StepRecord, logits: Tensor, scored: ScoredRows | None) -> list[SampledTokens | WholeRows]:
        """After a step, whose logits [batch, vocabulary] are those that will be sampled from: what can be sent."""
        found: list[SampledTokens | WholeRows] = []
        before, self._held = self._held, None
        if before is not None:
            found += _resolved(before, record, scored)
            if scored is not None and set(scored.handles) & set(before.scored.handles):
                self._patience_seconds = _patience_seconds(time.monotonic() - before.since)
        if scored is not None:
            logprobs = distribution(logits.index_select(0, scored.rows), scored, self._truncate)
            position = record.position.index_select(0, scored.rows)
            if scored.detailed:
                found.append(_alternatives(scored, position, logprobs, record.likeliest))
            ready = None
            if logprobs.is_cuda:
                ready = torch.cuda.Event()
                ready.record()
            self._held = Held(scored, position, logprobs, ready, time.monotonic())
        return found

    def idle(self) -> WholeRows | None:
        """The distributions held without a further step for as long as none can be expected, once. May be called from
        another thread."""
        held = self._held
        if held is None or held.sent or time.monotonic() - held.since < self._patience_seconds:
            return None
        held.sent = True
        return WholeRows(held, tuple(range(len(held.scored.handles))))


def _patience_seconds(step_seconds: float) -> float:
    return min(MAX_IDLE_SECONDS, max(IDLE_SECONDS, IDLE_STEPS * step_seconds))


def distribution(logits: Tensor, scored: ScoredRows, truncate: Truncate) -> Tensor:
    """The log probabilities that vLLM samples these rows with, from their changed logits [m, vocabulary] float32.

    The order is vLLM's: temperature, min-p, then top-k and top-p.
    """
    scaled = logits / scored.temperature[:, None]
    if scored.min_p is not None:
        shares = scaled.softmax(dim=-1)
        least = shares.amax(dim=-1) * scored.min_p
        scaled = scaled.masked_fill_(shares < least[:, None], -torch.inf)
    if scored.top_k is not None or scored.top_p is not None:
        scaled = truncate(scaled, scored.top_k, scored.top_p)
    return scaled.log_softmax(dim=-1)


def _resolved(before: Held, record: StepRecord, scored: ScoredRows | None) -> list[SampledTokens | WholeRows]:
    """What this step shows of the last one's tokens; the distributions of requests that are not in it, whole."""
    held, now = before.scored, () if scored is None else scored.handles
    place_now = {handle: place for place, handle in enumerate(now)}
    both = [(place, place_now[handle]) for place, handle in enumerate(held.handles) if handle in place_now]
    found: list[SampledTokens | WholeRows] = []
    if both and scored is not None:
        first = torch.tensor([place for place, _ in both], device=before.position.device)
        second = torch.tensor([place for _, place in both], device=before.position.device)
        places = scored.rows.index_select(0, second)
        token = record.last_token.index_select(0, places)
        logprob = before.logprobs[first, token]
        found.append(
            SampledTokens(
                handles=tuple(held.handles[place] for place, _ in both),
                addresses=tuple(held.addresses[place] for place, _ in both),
                position=before.position.index_select(0, first),
                known_at=record.position.index_select(0, places),
                token=token,
                logprob=logprob,
            )
        )
    gone = tuple(place for place, handle in enumerate(held.handles) if handle not in place_now)
    if gone and not before.sent:
        found.append(WholeRows(before, gone))
    return found


def _alternatives(scored: ScoredRows, position: Tensor, logprobs: Tensor, likeliest: Tensor) -> SampledTokens:
    """The likeliest tokens, of which a branch may write one."""
    width = likeliest.shape[1]
    chosen = torch.tensor(scored.detailed, device=position.device)
    tokens = likeliest.index_select(0, scored.rows.index_select(0, chosen)).long()
    place = position.index_select(0, chosen)[:, None].expand_as(tokens)
    return SampledTokens(
        handles=tuple(scored.handles[row] for row in scored.detailed for _ in range(width)),
        addresses=tuple(scored.addresses[row] for row in scored.detailed for _ in range(width)),
        position=torch.where(tokens >= 0, place, -1).flatten(),  # other requests may want more of them
        known_at=(place + 1).flatten(),
        token=tokens.flatten(),
        logprob=logprobs.index_select(0, chosen).gather(1, tokens.clamp(min=0)).flatten(),
    )
