"""Plots as SVG to be put into a page: text and axes take the page's own colour, so that they can be read in light and in dark."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def to_svg(drawn: Axes, across: str) -> None:
    drawn.set_xlabel(across)
    drawn.set_ylabel("right, %")
    drawn.set_ylim(bottom=0)
    drawn.set_xlim(left=0)
    drawn.grid(alpha=0.25, linewidth=0.6, color=INK)
    legend(drawn)
