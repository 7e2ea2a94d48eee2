"""Plots as SVG to be put into a page: text and axes take the page's own colour, so that they can be read in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from forkpoint_clients.ab.comparison import AtCap, Difference

from .formatting import MINUS

INK = "#010203"
"""Stands for the page's colour of text until the SVG is written."""

COLOURS = (INK, "#3b82f6", "#e08214", "#16a34a", "#c026d3", "#dc2626", "#0891b2", "#a16207")
"""The first arm is drawn in ink; each of the others can be told from white and from black."""

LINES = ("-", "-", "--", "-.", ":")
MARKS = "osD^vPX"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element that fills the width it is given. `name` tells its parts from those of others on the page."""
    written = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(written, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    found = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", written.getvalue(), count=1, flags=re.DOTALL)
    found = re.sub(r'<g id="[^"]*"', "<g", found)  # the same in every plot, and nothing refers to them
    return found[found.index("<svg") :].replace(INK, "currentColor")


def axes(width_inches: float = 5.2, height_inches: float = 3.4) -> tuple[Figure, Axes]:
    """A figure with one pair of axes in the reports' style."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width_inches, height_inches))
        return figure, figure.subplots()


def legend(drawn: Axes) -> None:
    """Above the plot, where it hides no curve."""
    drawn.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def differences(found: Sequence[Difference]) -> str:
    """Each arm's difference in what is right, at its own length and at equal mean length, with intervals; in points."""
    figure, drawn = axes(height_inches=0.9 + 0.55 * len(found))
    with mpl.rc_context(STYLE):
        for row, one in enumerate(found):
            equal = one.equal_mean.difference if one.equal_mean is not None else None
            for estimate, offset, mark, filled in ((one.correct, 0.13, "o", True), (equal, -0.13, "s", False)):
                if estimate is not None:
                    colour, value = COLOURS[1 + row % (len(COLOURS) - 1)], 100 * estimate.value
                    spread = [[value - 100 * estimate.low], [100 * estimate.high - value]]
                    face = colour if filled else "none"
                    drawn.errorbar(value, -row + offset, xerr=spread, fmt=mark, color=colour, markerfacecolor=face, capsize=3)
        drawn.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
        drawn.set_yticks([-row for row in range(len(found))], [one.arm for one in found])
        drawn.set_ylim(0.5 - len(found), 0.5)
        drawn.set_xlabel("difference in points\n● as answered, □ at equal mean tokens")
        drawn.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", MINUS) if value else "0")
    return svg(figure, "differences")


def capped(caps: Sequence[AtCap], arms: Sequence[str]) -> str:
    """The share that is right when all texts are cut off at the same number of tokens: of the arms that `caps` have."""
    curves = {arm: [(one.cap, one.correct[arm]) for one in caps] for arm in caps[0].correct}
    figure, drawn = axes()
    with mpl.rc_context(STYLE):
        for arm, curve in curves.items():
            number = arms.index(arm)
            colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
            at = [cap for cap, _ in curve]
            drawn.plot(at, [100 * one.value for _, one in curve], line, color=colour, label=arm)
            low, high = [100 * one.low for _, one in curve], [100 * one.high for _, one in curve]
            drawn.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        _finish(drawn, "tokens at which every answer is cut off")
    return svg(figure, "capped")


def at_mean_length(caps: Sequence[AtCap], arms: Sequence[str]) -> str:
    """The share that is right against the mean number of tokens, as the cap moves; each curve ends at the arm's own length."""
    curves: Mapping[str, Sequence[AtCap]] = dict.fromkeys(caps[0].correct, caps)
    figure, drawn = axes()
    with mpl.rc_context(STYLE):
        for arm, curve in curves.items():
            number = arms.index(arm)
            colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
            at, right = [one.mean_tokens[arm] for one in curve], [100 * one.correct[arm].value for one in curve]
            drawn.plot(at, right, line, color=colour, label=arm)
            drawn.plot(at[-1:], right[-1:], MARKS[number % len(MARKS)], color=colour)
        _finish(drawn, "mean tokens of an answer")
    return svg(figure, "mean-length")


def _finish(drawn: Axes, across: str) -> None:
    drawn.set_xlabel(across)
    drawn.set_ylabel("right, %")
    drawn.set_ylim(bottom=0)
    drawn.set_xlim(left=0)
    drawn.grid(alpha=0.25, linewidth=0.6, color=INK)
    legend(drawn)
