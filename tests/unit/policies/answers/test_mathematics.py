"""Equal formulas have one spelling, unequal ones different spellings, and none of them raises."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkpoint_policies.answers.mathematics import is_formula, mathematics

EQUAL = {
    "0.5": [r"\frac{1}{2}", r"\frac12", "0.5", "1/2", r"\dfrac12", "½", ".5", "x=1/2", r"x=\dfrac12", r"\text{0.5}"],
    "1000": ["1{,}000", "1,000", r"1\,000", "1 000", "10^3", "1.0e3", "1000.00", r"\$1{,}000", "$1000", "1000 meters"],
    "-3": ["−3", "-3", "–3", "x=-3", "-3.0", "-6/2", r"\frac{-6}{2}", r"-\frac{6}{2}", r"\sqrt[3]{-27}"],
    "1/3": [r"0.\overline{3}", "1/3", r"\frac{2}{6}"],
    "2.5": [r"2\frac{1}{2}", "2 1/2", "5/2", r"\frac52"],
    "50": ["50%", r"50\%", "50 percent", r"50 \text{ percent}"],
    "5": ["5 cm", r"5\,\text{cm}", "5 centimeters", r"5 \text{ cm}^2", "5 square units", r"5\mathrm{~kg}", "l = 5 cm"],
    "12": ["12 m/s", r"12 \mathrm{m/s}", r"12.0 \text{ meters per second}", "12 apples", r"12\,\Omega", "{12}"],
    "45": [r"45^\circ", "45°", "45 degrees", r"\angle A = 45^{\circ}", "AB = 45"],
    "42": ["= 42", r"\approx 42", "x = 40+2 = 42", "6*7", r"6 \times 7", "40 + 2 = 42"],
    "300000": [r"3\times 10^{5}", r"3 \cdot 10^5", "3 × 10⁵", "300,000"],
    "120": ["5!"],
    "10": [r"\binom{5}{2}"],
    "3": [r"\log_2 8", r"\sqrt{9}", "|-3|", r"x \in \{3\}"],
    "1": [r"\sin^2 x+\cos^2 x", r"\tan 45^\circ", r"\frac{x+1}{1+x}"],
    "0.707106781186548": [r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt2}", "sqrt(2)/2", r"\sqrt{\frac12}", "√2/2"],
    "3.46410161513775": [r"2\sqrt{3}", r"\sqrt{12}", "2*sqrt(3)", "2√3"],
    "0.785398163397448": [r"\frac{\pi}{4}", r"\pi/4", "pi/4", "π/4", r"0.25\pi", r"\frac{\pi}{4}\text{ radians}"],
    "1.38629436111989": [r"\ln 4", r"2\ln 2", r"\ln(4)"],
    "3 + 4*i": ["3+4i", "4i+3"],
    "-1": [r"e^{i\pi}", "i^2"],
    "x^2 + 2*x + 1": ["x^2+2x+1", "(x+1)^2", "(1+x)(x+1)", "f(x)=(x+1)^2", "(x + 1)**2", "x²+2x+1"],
    "n^2/2 + n/2": ["n(n+1)/2", r"\frac{n(n+1)}{2}", r"\frac{1}{2}n(n+1)"],
    "1500*x + 200": ["1,500x + 200", r"1{,}500x + 200"],
    "(100, 200)": ["(100,200)"],
    "2*x*y": ["2xy", "2yx", r"2 \cdot x \cdot y"],
    "x^{10}": ["x^{10}", "x^10", r"x^5 \cdot x^5"],
    "x/y": [r"\frac{x}{y}", "x/y", "x y^{-1}"],
    "2/(x^2 - 1)": [r"\frac{1}{x-1}-\frac{1}{x+1}", r"\frac{2}{x^2-1}"],
    "≡10.5382725992352 (x)": ["e^{2x}", "(e^x)^2", r"\exp(2x)"],
    "2*x - y + 1 = 0": ["y=2x+1", "2x-y+1=0", "y - 1 = 2x", "2x + 1 = y", "2y = 4x + 2"],
    "{1, 2}": [r"\{1,2\}", r"\{2, 1\}", "1, 2", "2 and 1", "x=1 or x=2", r"x=1 \text{ or } x=2", "{2,1,1}"],
    "{-3, 3}": [r"\pm 3", r"x=\pm3", "-3, 3", "x = 3 or x = -3"],
    "{1000, 2500}": ["1,000, 2,500", r"\{1{,}000, 2{,}500\}"],
    "{}": [r"\emptyset", r"\varnothing", r"\{\}"],
    "{x = 5, y = 3}": ["x=5,y=3", "y=3, x=5", "x=5 and y=3"],
    "(1, 2)": ["(1,2)", r"\left(1,2\right)", r"(1,\,\frac{4}{2})", "(x,y)=(1,2)", r"\langle 1,2\rangle"],
    "(2, 1)": ["(2,1)"],
    "[1, 2)": ["[1,2)", r"\left[1,2\right)", r"1 \le x < 2", r"x\in[1,2)", "1≤x<2"],
    "(-∞, 2] ∪ [3, ∞)": [r"(-\infty,2]\cup[3,\infty)", r"[3,\infty)\cup(-\infty,2]", r"x\le 2 \text{ or } x\ge 3"],
    "(3, ∞)": ["x > 3", "3 < x", r"(3,\infty)", r"x\in(3,\infty)"],
    "(-∞, ∞)": [r"\mathbb{R}", r"x \in \mathbb{R}", r"(-\infty,\infty)"],
    "[[1, 2], [3, 4]]": [r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"],
    "A": ["(A)", "A", r"\text{A}", r"\textbf{(A)}", "A.", r"\text{(A)}", r"\textbf{(A) } 5"],
    "paris": [r"\text{Paris}", "Paris", "paris", r"\mathrm{Paris}", "**Paris**."],
    "no solution": ["No solution", r"\text{no solution}"],
    "7:30 pm": [r"7:30 \text{ PM}", "7:30 p.m."],
    "100_2": ["100_2", "100_{2}"],
    "AB": ["AB"],
}  # fmt: skip


@pytest.mark.parametrize(("spelling", "formulas"), EQUAL.items())
def test_equal_formulas_have_one_spelling(spelling: str, formulas: list[str]) -> None:
    assert {formula: mathematics(formula) for formula in formulas} == dict.fromkeys(formulas, spelling)


@pytest.mark.parametrize("spelling", EQUAL)
def test_a_spelling_is_its_own(spelling: str) -> None:
    assert mathematics(spelling) == spelling


@pytest.mark.parametrize("formula", ["", " ", "$$", "=", "."])
def test_nothing(formula: str) -> None:
    assert mathematics(formula) is None


@pytest.mark.parametrize(
    "formula",
    ["9^{9^{9^{9}}}", "10000000!!", "((" * 300, "x^" * 30 + "2", r"\frac{" * 100, "1/0", r"\frac{}{}", "^_", "\ud800"],
)
def test_what_cannot_be_computed_is_compared_as_text(formula: str) -> None:
    assert mathematics(formula) == mathematics(formula) != ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x + 1", True), ("2xy", True), (r"\frac12", True), ("so x = 1", False), ("a\nb", False), ("", False)],
)
def test_a_formula_is_told_from_prose(text: str, expected: bool) -> None:
    assert is_formula(text) is expected


PIECES = [*"12, x(){}[]^_=-+/%.<∪−$", r"\{", r"\}", r"\frac", r"\text{", r"\pi", "and"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
def test_a_spelling_is_stable(formula: str) -> None:
    found = mathematics(formula)
    assert found is None or mathematics(found) == found


@settings(deadline=None)
@given(st.lists(st.fractions(max_denominator=20), min_size=2, max_size=4))
def test_the_order_of_a_set_does_not_matter(values: list[object]) -> None:
    orders = {mathematics("{" + ", ".join(map(str, order)) + "}") for order in itertools.permutations(values)}
    assert len(orders) == 1
