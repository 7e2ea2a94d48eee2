"""Numbers are read by what they are worth, in whatever way they are written."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.answers.numbers import last_number, number, plain_number, spelled

SECONDS = 5.0  # ample for a busy machine: a quadratic algorithm takes minutes

LAST = [
    # the sign
    ("The answer is 3-4 = −1, so x = −1", "-1"),
    ("The range is 3-4", "4"),
    ("3 - 4", "4"),
    ("x = - 5", "-5"),
    ("=–3", "-3"),
    ("- 5 apples", "5"),
    ("-5 apples", "-5"),
    ("between 5 and -1", "-1"),
    ("f(x)-1", "1"),
    ("covid-19", "19"),
    ("The answer is **-42**.", "-42"),
    ("-$5", "-5"),
    (r"\(x=-3\)", "-3"),
    ("-0", "0"),
    # digits in groups
    ("It is 1{,}000", "1000"),
    ("3 of 10, so -1,234.50 in all.", "-1234.5"),
    (r"1\,000\,000", "1000000"),
    ("1\u202f000", "1000"),
    ("1\u00a0000 km", "1000"),
    ("1'000", "1000"),
    ("1,00,000", "100000"),
    ("It costs $1,250.", "1250"),
    ("1,2,3", "3"),
    ("1, 2, 3", "3"),
    ("3,14", "14"),
    # fractions, powers, percent
    ("The answer is 1/2", "0.5"),
    ("1/3", "1/3"),
    ("2 1/2", "2.5"),
    ("½", "0.5"),
    ("2½", "2.5"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac13", "1/3"),
    (r"$-\frac{3}{4}$", "-0.75"),
    (r"2\frac{1}{2}", "2.5"),
    (r"0.\overline{3}", "1/3"),
    ("12/25/2024", "2024"),
    ("5/0", None),
    ("The distance is 10^5", "100000"),
    ("10**5", "100000"),
    ("10²", "100"),
    ("10^{-2}", "0.01"),
    ("3 × 10⁵", "300000"),
    (r"3 \times 10^{5}", "300000"),
    ("3.0 x 10^-5 m", "0.00003"),
    ("1e3", "1000"),
    ("1e9999999", None),
    ("1.5e-3", "0.0015"),
    ("50%", "50"),
    (r"50\%", "50"),
    ("\uff10\uff0e\uff15", "0.5"),
    # not the numbers that only refer to something
    ("The answer is 42 (see eq. 3)", "42"),
    ("42 (step 3)", "42"),
    ("42, as shown in Figure 2.", "42"),
    ("42 [1]", "42"),
    ("x ∈ [1]", "1"),
    ("3.14 (2 d.p.)", "3.14"),
    ("3.14 to 3 significant figures", "3.14"),
    ("25 m^2", "25"),
    ("25 cm²", "25"),
    ("44 g of CO2", "44"),
    ("x_1 = 3", "3"),
    # unless there is no other
    ("Step 3", "3"),
    ("x^2", "2"),
    ("none", None),
    ("7\n\nnone", "7"),
]


@pytest.mark.parametrize(("text", "found"), LAST)
def test_the_last_number(text: str, found: str | None) -> None:
    assert last_number(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 000", "1000"),
        ("$1,000.00", "1000"),
        ("0,5", "0.5"),
        ("100,200,300", "100200300"),
        ("+3", "3"),
        ("- 3", "-3"),
        ("30^\\circ", "30"),
        ("2^10", "1024"),
        ("007", "7"),
        ("3 apples", None),
        ("1,2", None),
        ("x", None),
        ("", None),
        ("1" * 5000, None),
    ],
)
def test_a_text_that_is_a_number(text: str, found: str | None) -> None:
    assert number(text) == found


@pytest.mark.parametrize(
    ("text", "found"), [("−1,000.0", "-1000"), ("4.0", "4"), ("007", None), ("1/2", None), ("50%", None), ("2^3", None)]
)
def test_a_text_of_digits_only(text: str, found: str | None) -> None:
    assert plain_number(text) == found


@given(st.fractions(max_denominator=10**6))
def test_a_spelled_number_is_itself(value: Fraction) -> None:
    assert number(spelled(value)) == spelled(value)
    assert Fraction(spelled(value)) == value


@given(st.fractions(), st.sampled_from(["{}", "${}$", "It is {}.", "x = {}"]))
def test_a_fraction_is_found(value: Fraction, text: str) -> None:
    assert last_number(text.format(value)) == spelled(value)


@pytest.mark.parametrize(
    "piece",
    ["1,", "1e", "9", "-", "1 ", "step 1 ", r"\frac{", r"\frac", "{", r"\text{", " ", "1/", "(a1 ", "^{", "."],
)
def test_a_long_repetitive_text_is_read_in_bounded_time(piece: str) -> None:
    began = time.process_time()
    last_number(piece * (200_000 // len(piece)))
    number(piece * (200_000 // len(piece)))
    assert time.process_time() - began < SECONDS
