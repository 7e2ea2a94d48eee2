"""The kinds of plots that findings have, in the reports' style: figures with their intervals, and curves with bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes

from forkpoint_clients.evaluate.plot_style import COLOURS, INK, LINES, MARKS, STYLE, axes, label, legend, svg
from forkpoint_clients.evaluate.stats import Estimate, Floats

from .base import Plot

Curves = Mapping[str, Sequence[tuple[float, Estimate]]]
"""Name -> points of a curve: x, and a figure."""


def intervals(name: str, caption: str, figures: Mapping[str, Estimate], x_label: str, times: float = 1.0) -> Plot:
    """A row for each figure with its interval, in units multiplied by `times`; a line at 0."""
    figure, plot = axes(height_inches=0.9 + 0.4 * len(figures))
    with mpl.rc_context(STYLE):
        for row, estimate in enumerate(figures.values()):
            _mark(plot, estimate, -row, times, COLOURS[1 + row % (len(COLOURS) - 1)])
        plot.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
        plot.set_yticks([-row for row in range(len(figures))], list(figures))
        plot.set_ylim(0.6 - len(figures), 0.6)
        plot.set_xlabel(x_label)
    return Plot(name, caption, svg(figure, name))


def _mark(plot: Axes, estimate: Estimate, row: float, times: float, colour: str) -> None:
    if math.isnan(estimate.value):
        return
    value, (low, high) = times * estimate.value, _ends(estimate, times)
    plot.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3)


def _ends(estimate: Estimate, times: float) -> tuple[float, float]:
    """The interval's ends, or the value without one.

    They enclose the value, which rounding may put slightly outside.
    """
    low, high = (estimate.value if math.isnan(end) else end for end in (estimate.low, estimate.high))
    return times * min(low, estimate.value), times * max(high, estimate.value)


def curves(
    name: str,
    caption: str,
    marks: Curves,
    x_label: str,
    y_label: str,
    times: float = 1.0,
    line: Literal["band", "bars"] = "band",
) -> Plot:
    """Curves from y = 0 with their intervals as bands, or points with bars, in units multiplied by `times`."""
    figure, plot = axes()
    with mpl.rc_context(STYLE):
        for number, (series, points) in enumerate(marks.items()):
            known = [(at, estimate) for at, estimate in points if not math.isnan(estimate.value)]
            at, value = [at for at, _ in known], [times * estimate.value for _, estimate in known]
            low, high = zip(*(_ends(estimate, times) for _, estimate in known), strict=True) if known else ((), ())
            colour = COLOURS[number % len(COLOURS)]
            if line == "band":
                plot.plot(at, value, LINES[number % len(LINES)], color=colour, label=series)
                plot.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            else:
                spread = [
                    [v - b for v, b in zip(value, low, strict=True)],
                    [t - v for v, t in zip(value, high, strict=True)],
                ]
                plot.errorbar(
                    at, value, yerr=spread, fmt=MARKS[number % len(MARKS)], color=colour, capsize=3, label=series
                )
        label(plot, x_label, y_label)
        plot.set_ylim(bottom=0)
        if len(marks) > 1:
            legend(plot)
    return Plot(name, caption, svg(figure, name))


def histogram(name: str, caption: str, values: Floats, edges: Floats, x_label: str, mark: float) -> Plot:
    """The share of values in each bin between `edges`, on a logarithmic axis; a line at `mark`."""
    figure, plot = axes()
    with mpl.rc_context(STYLE):
        shares = [100 * float(((values >= low) & (values < high)).mean()) for low, high in pairwise(edges)]
        plot.stairs(shares, edges, fill=True, color=COLOURS[1], alpha=0.7)
        plot.set_yscale("log")
        plot.axvline(mark, color=COLOURS[2], linewidth=1.2)
        label(plot, x_label, "tokens, %")
    return Plot(name, caption, svg(figure, name))


def law(
    name: str, caption: str, marks: Sequence[tuple[float, Estimate]], at: Floats, fitted: Floats, x_label: str
) -> Plot:
    """Shares with intervals, and a fitted curve through them."""
    figure, plot = axes()
    with mpl.rc_context(STYLE):
        for x, estimate in marks:
            value, (low, high) = 100 * estimate.value, _ends(estimate, 100)
            plot.errorbar(x, value, yerr=[[value - low], [high - value]], fmt="o", color=COLOURS[1], capsize=3)
        plot.plot(at, 100 * fitted, "-", color=COLOURS[2])
        label(plot, x_label, "right, %")
        plot.set_ylim(bottom=0)
    return Plot(name, caption, svg(figure, name))
