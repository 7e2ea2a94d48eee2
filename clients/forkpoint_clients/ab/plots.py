"""The plots of an `ab` report, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes

from forkpoint_clients.evaluate.formatting import MINUS
from forkpoint_clients.evaluate.plot_style import COLOURS, INK, LINES, MARKS, STYLE, axes, label, legend, svg

from .comparison import AtCap, Difference


def differences(arms: Sequence[Difference]) -> str:
    """Each arm's difference in right answers, in points with intervals: at its own length and at equal mean length."""
    figure, plot = axes(height_inches=0.9 + 0.55 * len(arms))
    with mpl.rc_context(STYLE):
        for row, difference in enumerate(arms):
            equal = difference.equal_mean.difference if difference.equal_mean is not None else None
            for estimate, offset, mark, filled in ((difference.correct, 0.13, "o", True), (equal, -0.13, "s", False)):
                if estimate is not None:
                    colour, value = COLOURS[1 + row % (len(COLOURS) - 1)], 100 * estimate.value
                    spread = [[value - 100 * estimate.low], [100 * estimate.high - value]]
                    face = colour if filled else "none"
                    plot.errorbar(
                        value, -row + offset, xerr=spread, fmt=mark, color=colour, markerfacecolor=face, capsize=3
                    )
        plot.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
        plot.set_yticks([-row for row in range(len(arms))], [difference.arm for difference in arms])
        plot.set_ylim(0.5 - len(arms), 0.5)
        plot.set_xlabel("difference in points\n● as answered, □ cut off at equal mean tokens")
        plot.xaxis.set_major_formatter(lambda value, _: f"{value:+g}".replace("-", MINUS) if value else "0")
    return svg(figure, "differences")


def capped(caps: Sequence[AtCap], arms: Sequence[str]) -> str:
    """The share of right answers if all texts are truncated at the same number of tokens, for the arms in `caps`."""
    curves = {arm: [(at_cap.cap, at_cap.correct[arm]) for at_cap in caps] for arm in caps[0].correct}
    figure, plot = axes()
    with mpl.rc_context(STYLE):
        for arm, curve in curves.items():
            number = arms.index(arm)
            colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
            at = [cap for cap, _ in curve]
            plot.plot(at, [100 * right.value for _, right in curve], line, color=colour, label=arm)
            low, high = [100 * right.low for _, right in curve], [100 * right.high for _, right in curve]
            plot.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        _finish(plot, "tokens at which every answer is cut off")
    return svg(figure, "capped")


def at_mean_length(caps: Sequence[AtCap], arms: Sequence[str]) -> str:
    """The share of right answers against the mean number of tokens as the cap moves; a curve ends at its arm's own
    length.
    """
    curves: Mapping[str, Sequence[AtCap]] = dict.fromkeys(caps[0].correct, caps)
    figure, plot = axes()
    with mpl.rc_context(STYLE):
        for arm, curve in curves.items():
            number = arms.index(arm)
            colour, line = COLOURS[number % len(COLOURS)], LINES[number % len(LINES)]
            at = [at_cap.mean_tokens[arm] for at_cap in curve]
            right = [100 * at_cap.correct[arm].value for at_cap in curve]
            plot.plot(at, right, line, color=colour, label=arm)
            plot.plot(at[-1:], right[-1:], MARKS[number % len(MARKS)], color=colour)
        _finish(plot, "mean tokens of an answer")
    return svg(figure, "mean-length")


def _finish(plot: Axes, x_label: str) -> None:
    label(plot, x_label, "right, %")
    plot.set_ylim(bottom=0)
    plot.set_xlim(left=0)
    legend(plot)
