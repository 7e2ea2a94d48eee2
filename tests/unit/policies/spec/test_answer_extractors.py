"""Extracted answers are compared in one normal form."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forkpoint_policies.spec.answer_extractors import EXTRACTORS, extractor

SECONDS = 5.0  # ample for a busy machine: a quadratic algorithm takes minutes

FOUND = [
    ("boxed", r"so \boxed{42} or \boxed{\frac{1}{2}}", "0.5"),
    ("boxed", r"\boxed{\frac12}", "0.5"),
    ("boxed", r"\boxed{\frac1x}", r"\frac{1}{x}"),
    ("boxed", r"\boxed{1{,}000}", "1000"),
    ("boxed", r"\boxed{1\,000}", "1000"),
    ("boxed", r"\boxed{−3}", "-3"),
    ("boxed", r"\boxed{-3.}", "-3"),
    ("boxed", r"\boxed 5", "5"),
    ("boxed", r"so $\boxed 42$.", "42"),
    ("boxed", r"\boxed{3} and, as the form asks, \boxed{}", "3"),
    ("boxed", r"\boxed{\boxed{3}}", "3"),
    ("boxed", r"\fbox{3}", "3"),
    ("boxed", r"\boxed{\text{Paris}}", "Paris"),
    ("boxed", r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
    ("boxed", r"\boxed{1,000.50}", "1000.5"),
    ("boxed", r"first \boxed{7}, then \boxed{8", "7"),
    ("boxed", r"\boxed{1} } \boxed{ {2} \boxed{3}", "3"),
    ("boxed", "42", None),
    ("boxed_text", r"\boxed{ 1,000.50 }", " 1,000.50 "),
    ("boxed_text", r"\boxed{\frac{1}{2}} \boxed{7", r"\frac{1}{2}"),
    ("boxed_text", r"\boxed{}", None),
    ("last_line", "one\n**two.**\n\n", "two"),
    ("last_line", " \n", None),
    ("last_line", "so\n−1,000.0", "-1000"),
    ("last_line", "code 007\n007", "007"),
    ("last_line", "1/2", "1/2"),
    ("last_number", "3 of 10, so -1,234.50 in all.", "-1234.5"),
    ("last_number", "1e3", "1000"),
    ("last_number", "1e9999999", None),
    ("last_number", "none", None),
    ("last_number", "The answer is 3-4 = −1, so x = −1", "-1"),
    ("last_number", "The answer is 42 (see eq. 3)", "42"),
    ("math", r"first \boxed{1}, then \boxed{\frac{x^2-1}{x+1}}. Checked 3 times.", "x - 1"),
    ("math", r"The answer is $\frac12$, see step 3.", "0.5"),
    ("math", r"The answer is 5. \boxed{}", "5"),
    ("math", r"\boxed{(A)}", "A"),
    ("math", r"\boxed{}", None),
    ("text", "  (3 + 4)\n * 2. ", "(3 + 4) * 2"),
    ("text", "", None),
    ("text", " −1,000.0. ", "-1000"),
    ("json_field:answer", 'it is {"answer": 1} no: {"answer": 4.0}', "4"),
    ("json_field:answer", '{"answer": "1{,}000"}', "1000"),
    ("json_field:a.b", '{"a": {"b": [1, 2]}}', "[1, 2]"),
    ("json_field:a.c", '{"a": {"b": 1}}', None),
    ("json_field:a", "{not json", None),
    ("json_field:ok", '{"ok": true}', "true"),
]


@pytest.mark.parametrize(("name", "text", "found"), FOUND)
def test_the_extracted_answer(name: str, text: str, found: str | None) -> None:
    assert extractor(name)(text) == found


@pytest.mark.parametrize("name", ["guess", "", "json_field:", "BOXED"])
def test_an_unknown_extractor_is_rejected(name: str) -> None:
    known = "there are boxed, boxed_text, last_line, last_number, math, text and json_field:NAME"
    with pytest.raises(ValueError, match=known):
        extractor(name)


@settings(deadline=None)  # the first formula waits for the process that computes with it
@given(st.text(), st.sampled_from([*EXTRACTORS, "json_field:a"]))
def test_any_text_can_be_read(text: str, name: str) -> None:
    found = extractor(name)(text)
    assert found is None or found


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_number_has_one_spelling(number: object) -> None:
    read = extractor("last_number")
    assert read(f"{number:,}") == read(f"{number:.6f}") == read(str(read(f"{number}")))


@pytest.mark.parametrize("name", [*EXTRACTORS, "json_field:a"])
@pytest.mark.parametrize(
    "piece", [r"\boxed{", r"\boxed ", "{", '{"', '{"a":', '{"a":[', '{"a":"', "1,", "1e", "-", "9", "*", "\n", " ", "}"]
)
def test_a_long_repetitive_text_is_read_in_bounded_time(name: str, piece: str) -> None:
    began = time.process_time()
    extractor(name)(piece * (200_000 // len(piece)))
    assert time.process_time() - began < SECONDS
