"""How figures are written in tables and reports."""

from __future__ import annotations

import json
import math

import pytest

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import Estimate


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formatting.percent(Estimate(0.487, 0.43, 0.544)), "48.7% [43.0, 54.4]"),
        (formatting.points(Estimate(-0.173, -0.24, -0.103)), "−17.3 [−24.0, −10.3]"),
        (formatting.count(Estimate(633.2, 601, 665)), "633 [601, 665]"),
        (formatting.change(Estimate(73, 25, 122)), "+73 [+25, +122]"),
        (formatting.nats(Estimate(0.672, 0.661, 0.683)), "0.672 nats [0.661, 0.683]"),
        (formatting.number(Estimate(0.93, 0.88, 0.97)), "0.93 [0.88, 0.97]"),
        (formatting.number(Estimate(0.93)), "0.93"),
        (formatting.percent(None), "–"),
        (formatting.count(Estimate(math.nan)), "–"),
        (formatting.share(Estimate(0.25)), "25%"),
        (formatting.share(None), "–"),
        (formatting.plain(-1.25, 2), "−1.25"),
        (formatting.plain(math.nan), "–"),
        (formatting.p_value(0.0004), "< 0.001"),
        (formatting.p_value(0.0414), "0.041"),
        (formatting.p_value(math.nan), "–"),
    ],
)
def test_figures(written: str, expected: str) -> None:
    assert written == expected


def test_json_has_null_where_a_figure_is_unknown() -> None:
    value = {"a": (1.5, math.nan), "b": [math.inf, None, "x", 3]}
    assert json.dumps(formatting.without_nan(value), allow_nan=False) == '{"a": [1.5, null], "b": [null, null, "x", 3]}'
