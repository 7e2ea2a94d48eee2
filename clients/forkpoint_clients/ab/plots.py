"""The plots of an `ab` report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl

from forkpoint_clients.evaluate.formatting import MINUS
from forkpoint_clients.evaluate.plot_style import COLOURS, INK, LINES, MARKS, STYLE, axes, svg, to_svg

from .comparison import AtCap, Difference


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
                    drawn.errorbar(
                        value, -row + offset, xerr=spread, fmt=mark, color=colour, markerfacecolor=face, capsize=3
                    )
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
        to_svg(drawn, "tokens at which every answer is cut off")
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
        to_svg(drawn, "mean tokens of an answer")
    return svg(figure, "mean-length")
