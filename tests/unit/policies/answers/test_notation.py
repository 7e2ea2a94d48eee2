"""What is written in several ways is written in one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.answers.notation import closing_braces, one_notation, without_markup


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("−3 – 4", "-3 - 4"),
        ("x² + 10⁻³", "x^{2} + 10^{-3}"),
        ("2½", "2 1/2"),
        (r"\dfrac12 \tfrac 1 {2} \frac{1}2", r"\frac{1}{2} \frac{1}{2} \frac{1}{2}"),
        (r"\frac{\frac12}3", r"\frac{\frac{1}{2}}{3}"),
        (r"\frac{1", r"\frac{1"),
        (r"\left( 1,\, 2 \right]", "( 1,  2 ]"),
        (r"\text{Paris}", " Paris "),
        (r"\text{a \textbf{b}}", " a  b  "),
        (r"\sqrt2 + \sqrt x", r"\sqrt{2} + \sqrt{x}"),
        (r"50\% of \$5", "50% of $5"),
        ("45°", r"45^{\circ}"),
        (r"\{1\}", r"\{1\}"),
        ("x ** 2 and x**2, **bold**", "x^2 and x^2, **bold**"),
        ("1{,}000 or {1{,}2}", "1000 or {1,2}"),
        ("π ≤ ∞", r"\pi  \le  \infty "),
    ],
)
def test_one_notation(text: str, expected: str) -> None:
    assert one_notation(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [(" **two.**\n", "two"), ("$x$", "x"), ("a\n b", "a b"), ("...", ""), ("`3`.", "3")]
)
def test_markup_around_a_text(text: str, expected: str) -> None:
    assert without_markup(text) == expected


def test_braces_after_a_backslash_close_nothing() -> None:
    assert closing_braces(r"{\{}}{") == {0: 3}


@given(st.text("{}\\frac12 $.*\n−½²√"))
def test_any_text_has_a_notation(text: str) -> None:
    one_notation(text)
    assert without_markup(without_markup(text)) == without_markup(text)
