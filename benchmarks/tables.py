"""Ratios with their spread, set against goals, as tables to read and as data."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """One ratio per round. Only the median is held against a goal; the spread says how far to believe it."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(min(self.rounds))}..{_short(max(self.rounds))})"


@dataclass(frozen=True)
class Row:
    """What was measured of one arm, a ratio per column of its table; `goal` is what the first shall be at least.

    `aside` holds absolute figures, which say as much about the machine as about the arm.
    """

    what: str
    arm: str
    ratios: tuple[Ratio | None, ...]
    goal: float | None
    aside: str

    @property
    def met(self) -> bool | None:
        """Whether the goal was met, None without one."""
        first = self.ratios[0]
        return None if self.goal is None or first is None else first.median >= self.goal

    @property
    def verdict(self) -> str:
        return "" if self.met is None else f"{'met' if self.met else 'MISSED'} (≥ {self.goal:g})"


@dataclass(frozen=True)
class Table:
    """One part of the benchmark; `columns` say what the ratios are. In each, more is better."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    notes: Sequence[str]

    def markdown(self) -> str:
        """The table as people read it."""
        heads = ("", "arm", self.columns[0], "goal", *self.columns[1:], "aside")
        return _markdown(self.name, self.title, heads, [_cells(row) for row in self.rows], self.notes)

    def data(self) -> dict[str, Any]:
        """The table as programs read it, with every round."""
        return {
            "name": self.name,
            "title": self.title,
            "rows": [
                {
                    "what": row.what,
                    "arm": row.arm,
                    "goal": row.goal,
                    "met": row.met,
                    "ratios": {
                        column: {"median": ratio.median, "rounds": ratio.rounds}
                        for column, ratio in zip(self.columns, row.ratios, strict=True)
                        if ratio is not None
                    },
                    "aside": row.aside,
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Listing:
    """A table of figures that are no ratios."""

    name: str
    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str]

    def markdown(self) -> str:
        """The table as people read it."""
        return _markdown(self.name, self.title, self.heads, self.rows, self.notes)

    def data(self) -> dict[str, Any]:
        """The table as programs read it."""
        rows = [dict(zip(self.heads, row, strict=True)) for row in self.rows]
        return {"name": self.name, "title": self.title, "rows": rows, "notes": list(self.notes)}


def _markdown(
    name: str, title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], notes: Sequence[str]
) -> str:
    lines = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    written = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    written.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([f"## {name}: {title}", "", *written, "", *(f"- {note}" for note in notes)])


def _cells(row: Row) -> tuple[str, ...]:
    first, *others = (str(ratio) if ratio is not None else "" for ratio in row.ratios)
    return (row.what, row.arm, first, row.verdict, *others, row.aside)


def _short(value: float) -> str:
    return f"{value:.3f}" if value < 2 else f"{value:.1f}"
