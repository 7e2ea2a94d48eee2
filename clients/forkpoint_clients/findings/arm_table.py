"""A table of arms beside no policy: right answers, tokens, and what else a finding reads of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import Estimate

from .base import Table
from .lab import BASELINE, Answers
from .measures import average, tokens


@dataclass(frozen=True)
class Column:
    """A further column: what is written of an arm's answers; of no policy only with `of_baseline`."""

    head: str
    written: Callable[[Answers], str]
    of_baseline: bool = True


def arm_table(
    title: str,
    answers: Mapping[str, Answers],
    differences: Mapping[str, Estimate],
    columns: Sequence[Column],
    head: str = "arm",
) -> Table:
    """A row for no policy, then one for each arm of `differences`, which are in right answers, to no policy."""

    def row(name: str) -> tuple[str, ...]:
        own, difference = answers[name], differences.get(name)
        return (
            name,
            formatting.percent(average(own)),
            "" if difference is None else formatting.points(difference),
            formatting.count(average(own, tokens)),
            *(column.written(own) if column.of_baseline or difference is not None else "" for column in columns),
        )

    heads = (head, "right", "less no policy", "tokens", *(column.head for column in columns))
    return Table(title, heads, tuple(row(name) for name in (BASELINE.name, *differences)))
