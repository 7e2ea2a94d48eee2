"""The few figures of a request that lists of requests show."""

from __future__ import annotations

from dataclasses import dataclass

from forkpoint_policies.worker.record_sums import PLANNING

from .context import Reported


@dataclass(frozen=True, slots=True)
class Figures:
    """`effect` is the number of tokens that the policy is expected to have changed."""

    num_forks: int
    forks_share: float | None  # of the tokens with a record
    effect: float


def figures_of(request: Reported) -> Figures:
    """The figures of a request, from its records."""
    sums, num_rules = [trace.sums(request.fork_threshold) for trace in request.traces], len(request.applied.actions)
    num_measured = sum(int(one.tokens.sum()) for one in sums)
    num_forks = sum(int(one.tokens[0, PLANNING]) for one in sums)
    return Figures(
        num_forks,
        round(num_forks / num_measured, 4) if num_measured else None,
        sum(float(one.effect[0, :num_rules].sum()) for one in sums),
    )


def num_tokens_of(request: Reported) -> int:
    """The tokens generated so far, those that answers share counted once."""
    tree = request.tree
    return sum(len(trace.tokens) for trace in request.traces) if tree is None else tree.num_generated_tokens
