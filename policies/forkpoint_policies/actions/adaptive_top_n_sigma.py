"""Top-n-sigma with an n of the request's own: it follows the mean entropy of the text so far.

Top-n-sigma keeps the tokens whose logit is at most n standard deviations of all logits below the largest
(arXiv:2411.07641). How n moves is ours, and not published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from forkpoint_policies.actions.definition import ActionFile, Fields, Place, Rows, Seen, ServedNumbers
from forkpoint_policies.spec.fields import Number

if TYPE_CHECKING:  # who writes policies needs no torch
    from torch import Tensor

MIN_NATS = 1e-3
Sigmas = Annotated[Number, Field(gt=0, le=100)]


class AdaptiveTopNSigma(Fields):
    """Keep tokens whose logit is at most n standard deviations of all logits below the largest (arXiv:2411.07641), with
    an n between two that follows the text so far.

    With the mean m of the request's entropies over about the last `tokens`, and the `threshold` θ in nats, n is
    `unsure` + (`sure` - `unsure`) · θ / (θ + m): `sure` where the model was certain throughout, halfway where m is θ,
    and near `unsure` where m is far above. Before the first token, m is θ. This rule is Forkpoint's own.
    """

    sure: Sigmas
    unsure: Sigmas
    threshold: Annotated[Number, Field(gt=0, le=50)] | Literal["fork"] = "fork"
    tokens: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 64


def _compile(fields: AdaptiveTopNSigma, served: ServedNumbers) -> tuple[float, ...]:
    threshold = served.fork_threshold_nats if isinstance(fields.threshold, str) else fields.threshold
    return fields.sure, fields.unsure, max(threshold, MIN_NATS), fields.tokens


def _act(rows: Rows) -> Tensor:
    from forkpoint_policies.kernel.actions.truncate import deviation

    sure, unsure, threshold, _ = rows.parameters.unbind(1)
    count, mean = rows.state.unbind(1)
    mean = mean.where(count > 0, threshold)
    n = unsure + (sure - unsure) * threshold / (threshold + mean)
    peak = rows.logits.amax(dim=-1)
    limit = peak - n * deviation(rows.logits, peak)
    return rows.logits.masked_fill(rows.logits < limit[:, None], float("-inf"))


def _advance(state: Tensor, seen: Seen) -> Tensor:
    """How many of the last tokens count, and their mean entropy: plain at first, then with that weight."""
    tokens = seen.parameters[:, 3]
    after = state.clone()
    after[:, 0] = (state[:, 0] + 1).minimum(tokens)
    after[:, 1] += (seen.entropy - state[:, 1]) / after[:, 0]
    return after


ACTION = ActionFile(
    fields=AdaptiveTopNSigma,
    place=Place.TRUNCATION,
    compile=_compile,
    act=_act,
    examples=({"sure": 2.0, "unsure": 0.5}, {"sure": 0.7, "unsure": 1.5, "threshold": 1.0, "tokens": 3}),
    state_size=2,
    advance=_advance,
)
