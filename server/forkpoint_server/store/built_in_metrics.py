"""The metrics that the server measures for every request of an experiment, each declared once.

The columns of the table, the database's aggregates, the names that posted outcomes cannot use, the analysis and the
recorded row all derive from `BUILT_IN_METRICS`. A new metric also needs a migration and a value in the recorded row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Column, Double, Integer, SmallInteger
from sqlalchemy.types import TypeEngine

Direction = Literal["higher", "lower", "neither"]
"""Which values of a metric are better."""
Role = Literal["decision", "guardrail", "information"]


@dataclass(frozen=True)
class BuiltInMetric:
    """One metric. `direction` and `role` are those of its analysis, unless an experiment's definition sets others."""

    name: str  # of the metric and of its column
    type: TypeEngine[Any]
    direction: Direction
    role: Role
    nullable: bool = False
    in_summary: bool = False  # recorded from the field of this name in the response's `forkpoint` object

    def column(self) -> Column[Any]:
        return Column(self.name, self.type, nullable=self.nullable)


BUILT_IN_METRICS = (
    BuiltInMetric("tokens", Integer(), "lower", "information", in_summary=True),
    BuiltInMetric("reasoning_tokens", Integer(), "neither", "information", nullable=True, in_summary=True),
    BuiltInMetric("latency_seconds", Double(), "lower", "guardrail"),
    BuiltInMetric("error", SmallInteger(), "lower", "guardrail"),
    BuiltInMetric("truncated", SmallInteger(), "lower", "guardrail"),
    BuiltInMetric("mean_entropy", Double(), "neither", "information", nullable=True, in_summary=True),
)
BUILT_IN_NAMES = frozenset(metric.name for metric in BUILT_IN_METRICS)

SUMMARY_COLUMNS = (
    *(metric.name for metric in BUILT_IN_METRICS if metric.in_summary),
    "forks", "mean_entropy_forks", "mean_entropy_execution",
)  # fmt: skip
"""The columns recorded from the response's `forkpoint` object: built-in metrics, and figures that are only stored."""
