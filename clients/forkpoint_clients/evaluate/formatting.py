"""Formats figures for tables and reports."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands that format no estimates do not load scipy for it
    from .stats import Estimate

UNKNOWN = "–"
MINUS = "−"


def percent(estimate: Estimate | None) -> str:
    """A share: 48.7% [43.0, 54.4]."""
    return _formatted(estimate, 100, "{:.1f}", "%")


def points(estimate: Estimate | None) -> str:
    """A difference of shares in percentage points: −17.3 [−24.0, −10.3]."""
    return _formatted(estimate, 100, "{:+.1f}", "")


def count(estimate: Estimate | None) -> str:
    """A mean number: 633 [601, 665]."""
    return _formatted(estimate, 1, "{:.0f}", "")


def change(estimate: Estimate | None) -> str:
    """A difference of mean numbers: +73 [+25, +122]."""
    return _formatted(estimate, 1, "{:+.0f}", "")


def nats(estimate: Estimate | None) -> str:
    """An entropy: 0.672 nats [0.661, 0.683]."""
    return _formatted(estimate, 1, "{:.3f}", " nats")


def number(estimate: Estimate | None) -> str:
    """Any other figure: 0.93 [0.88, 0.97]."""
    return _formatted(estimate, 1, "{:.2f}", "")


def p_value(p: float | None) -> str:
    """A p-value to three decimals."""
    if p is None or math.isnan(p):
        return UNKNOWN
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def plain(value: float | None, digits: int = 1) -> str:
    """A number without an interval."""
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", MINUS)


def share(estimate: Estimate | None) -> str:
    """A share without its interval."""
    return UNKNOWN if estimate is None else f"{100 * estimate.value:.0f}%"


def _formatted(estimate: Estimate | None, times: float, form: str, unit: str) -> str:
    if estimate is None or math.isnan(estimate.value):
        return UNKNOWN
    value, low, high = (form.format(times * number) for number in (estimate.value, estimate.low, estimate.high))
    text = f"{value}{unit}" if math.isnan(estimate.low) else f"{value}{unit} [{low}, {high}]"
    return text.replace("-", MINUS)


def without_nan(value: Any) -> Any:
    """A value for JSON: NaN and infinite numbers become None, and tuples lists."""
    if isinstance(value, Mapping):
        return {key: without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
