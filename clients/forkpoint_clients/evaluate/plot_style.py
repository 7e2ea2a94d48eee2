"""Plots as inline SVG. Text and axes take the page's text colour, so they are legible on light and dark pages."""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""

COLOURS = (INK, "#3b82f6", "#e08214", "#16a34a", "#c026d3", "#dc2626", "#0891b2", "#a16207")
"""The first arm is plotted in ink; the other colours contrast with both white and black."""

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
    """A figure as an SVG element that fills the available width. `name` makes its ids unique on the page."""
    output = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure.savefig(output, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    element = re.sub(r'(<svg [^>]*?)width="[^"]*" height="[^"]*"', r"\1", output.getvalue(), count=1, flags=re.DOTALL)
    element = re.sub(r'<g id="[^"]*"', "<g", element)  # the same in every plot, and nothing refers to them
    return element[element.index("<svg") :].replace(INK, "currentColor")


def axes(width_inches: float = 5.2, height_inches: float = 3.4) -> tuple[Figure, Axes]:
    """A figure with one pair of axes in the reports' style."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width_inches, height_inches))
        return figure, figure.subplots()


def legend(plot: Axes) -> None:
    """Put a legend above the plot, where it hides no curve."""
    plot.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def label(plot: Axes, x_label: str, y_label: str) -> None:
    """Label both axes, and add a grid."""
    plot.set_xlabel(x_label)
    plot.set_ylabel(y_label)
    plot.grid(alpha=0.25, linewidth=0.6, color=INK)
