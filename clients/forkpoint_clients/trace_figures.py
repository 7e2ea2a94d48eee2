"""A trace as a data frame, and as a plot of its entropy."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from .evaluate.plot_style import COLOURS, STYLE
from .trace_data import TraceData
from .trace_text import answer_start, answered_index, own_tokens, whole_tokens

PANEL_INCHES = (9.0, 2.2)
MAX_PANELS = 16


def frame_of(trace: TraceData) -> pd.DataFrame:
    """One row per generated token, shared ones once. Tokens without a record have no entropy."""
    forks = {(point.choice, point.index): point for point in trace.fork_points}
    effects = {(point.choice, point.index): point.effect for point in trace.intervention_points}
    rows = []
    for choice in trace.choices:
        actions = dict(zip(choice.positions, choice.actions, strict=False))
        written = set(choice.written)
        for number, token in enumerate(own_tokens(choice)):
            place = choice.index, token.position
            fork = forks.get(place)
            rows.append(
                {
                    "choice": choice.index,
                    "position": token.position,
                    "token": token.text,
                    "token_id": token.token_id,
                    "entropy": token.entropy,
                    "in_reasoning": token.in_reasoning,
                    "fork": fork is not None,
                    "connector": None if fork is None else fork.connector,
                    "actions": ",".join(actions.get(token.position, ())),
                    "effect": effects.get(place, 0.0),
                    "forced": number in written,
                    "logprob": None if choice.logprobs is None else choice.logprobs[number],
                    "policy_logprob": None if choice.policy_logprobs is None else choice.policy_logprobs[number],
                }
            )
    return pd.DataFrame(rows)


def plot_of(trace: TraceData) -> Figure:
    """The entropy of each token (nats): a panel per choice, MAX_PANELS at most, the answered one first."""
    first = answered_index(trace)
    indices = sorted((choice.index for choice in trace.choices), key=lambda index: index != first)[:MAX_PANELS]
    effects = {(point.choice, point.index) for point in trace.intervention_points}
    with mpl.rc_context(STYLE):
        width, height = PANEL_INCHES
        figure = Figure(figsize=(width, height * max(len(indices), 1)), layout="constrained")
        panels = figure.subplots(max(len(indices), 1), squeeze=False, sharex=True, sharey=True)[:, 0]
        for index, axes in zip(indices, panels, strict=False):
            tokens = whole_tokens(trace, index)
            known = [token for token in tokens if token.entropy is not None]
            axes.vlines(
                [token.position for token in known],
                0,
                [token.entropy for token in known],
                color=COLOURS[1],
                linewidth=0.8,
            )
            if trace.threshold is not None:
                axes.axhline(trace.threshold, color=COLOURS[2], linewidth=0.8, linestyle="--", label="fork threshold")
            acted = [token for token in known if (index, token.position) in effects]
            axes.plot(
                [token.position for token in acted],
                [token.entropy for token in acted],
                "^",
                color=COLOURS[5],
                markersize=4,
                label="policy had an effect",
            )
            if 0 < (start := answer_start(tokens)) < len(tokens):
                axes.axvline(start, color=COLOURS[0], linewidth=0.8, linestyle=":", label="answer starts")
            axes.set_ylabel("entropy (nats)" if len(indices) == 1 else f"choice {index}\nentropy (nats)")
            axes.set_ylim(bottom=0)
        panels[-1].set_xlabel("generated token")
        panels[0].legend(loc="upper right", fontsize="small")
    return figure
