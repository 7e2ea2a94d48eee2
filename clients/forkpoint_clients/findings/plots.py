"""The kinds of plots that findings have, in the style of `plots`: figures with their intervals, and curves with bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes

from forkpoint_clients.evaluate.plot_style import COLOURS, INK, LINES, MARKS, STYLE, axes, legend, svg
from forkpoint_clients.evaluate.stats import Estimate, Floats

from .base import Plot

Marks = Mapping[str, Sequence[tuple[float, Estimate]]]
"""A name -> places along the horizontal axis, each with a figure."""


def intervals(
    name: str, caption: str, figures: Mapping[str, Estimate], label: str, times: float = 1.0, bound: float | None = 0.0
) -> Plot:
    """A row for each figure, with its interval; the line is at `bound`."""
    figure, drawn = axes(height_inches=0.9 + 0.4 * len(figures))
    with mpl.rc_context(STYLE):
        for row, (_, one) in enumerate(figures.items()):
            _mark(drawn, one, -row, times, COLOURS[1 + row % (len(COLOURS) - 1)])
        if bound is not None:
            drawn.axvline(times * bound, color=INK, linewidth=0.8, alpha=0.6)
        drawn.set_yticks([-row for row in range(len(figures))], list(figures))
        drawn.set_ylim(0.6 - len(figures), 0.6)
        drawn.set_xlabel(label)
    return Plot(name, caption, svg(figure, name))


def _mark(drawn: Axes, one: Estimate, row: float, times: float, colour: str) -> None:
    if math.isnan(one.value):
        return
    value, (low, high) = times * one.value, _ends(one, times)
    drawn.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=3)


def _ends(one: Estimate, times: float) -> tuple[float, float]:
    """Of the interval, or the value where there is none; around the value, which rounding may put a hair beside it."""
    low, high = (one.value if math.isnan(end) else end for end in (one.low, one.high))
    return times * min(low, one.value), times * max(high, one.value)


def curves(
    name: str, caption: str, marks: Marks, across: str, up: str, times: float = 1.0, line: Literal["band", "bars"] = "band",
    from_zero: bool = True,
) -> Plot:  # fmt: skip
    """Figures along an axis, with their intervals as bands or as bars."""
    figure, drawn = axes()
    with mpl.rc_context(STYLE):
        for number, (label, some) in enumerate(marks.items()):
            shown = [(at, one) for at, one in some if not math.isnan(one.value)]
            at, value = [at for at, _ in shown], [times * one.value for _, one in shown]
            low, high = zip(*(_ends(one, times) for _, one in shown), strict=True) if shown else ((), ())
            colour = COLOURS[number % len(COLOURS)]
            if line == "band":
                drawn.plot(at, value, LINES[number % len(LINES)], color=colour, label=label)
                drawn.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            else:
                spread = [
                    [v - b for v, b in zip(value, low, strict=True)],
                    [t - v for v, t in zip(value, high, strict=True)],
                ]
                drawn.errorbar(
                    at, value, yerr=spread, fmt=MARKS[number % len(MARKS)], color=colour, capsize=3, label=label
                )
        to_svg(drawn, across, up, from_zero, len(marks) > 1)
    return Plot(name, caption, svg(figure, name))


def histogram(name: str, caption: str, values: Floats, edges: Floats, across: str, mark: float | None = None) -> Plot:
    """The share of values in each bin, on a logarithmic axis; a line at `mark`."""
    figure, drawn = axes()
    with mpl.rc_context(STYLE):
        shares = [100 * float(((values >= low) & (values < high)).mean()) for low, high in pairwise(edges)]
        drawn.stairs(shares, edges, fill=True, color=COLOURS[1], alpha=0.7)
        drawn.set_yscale("log")
        if mark is not None:
            drawn.axvline(mark, color=COLOURS[2], linewidth=1.2)
        to_svg(drawn, across, "tokens, %", False, False)
    return Plot(name, caption, svg(figure, name))


def law(
    name: str, caption: str, marks: Sequence[tuple[float, Estimate]], at: Floats, fitted: Floats, across: str
) -> Plot:
    """Shares with intervals, and a fitted curve through them."""
    figure, drawn = axes()
    with mpl.rc_context(STYLE):
        for place, one in marks:
            value, (low, high) = 100 * one.value, _ends(one, 100)
            drawn.errorbar(place, value, yerr=[[value - low], [high - value]], fmt="o", color=COLOURS[1], capsize=3)
        drawn.plot(at, 100 * fitted, "-", color=COLOURS[2])
        to_svg(drawn, across, "right, %", True, False)
    return Plot(name, caption, svg(figure, name))


def to_svg(drawn: Axes, across: str, up: str, from_zero: bool, several: bool) -> None:
    drawn.set_xlabel(across)
    drawn.set_ylabel(up)
    if from_zero:
        drawn.set_ylim(bottom=0)
    drawn.grid(alpha=0.25, linewidth=0.6, color=INK)
    if several:
        legend(drawn)
