"""Extracted answers are compared in one normal form."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.spec.answer_extractors import extractor

SECONDS = 5.0  # ample for a busy machine: a quadratic algorithm takes minutes

FOUND = [
    ("boxed", r"so \boxed{42} or \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    ("boxed", r"\boxed{1,000.50}", "1000.5"),
    ("boxed", r"first \boxed{7}, then \boxed{8", "7"),
    ("boxed", r"\boxed{1} } \boxed{ {2} \boxed{3}", "3"),
    ("boxed", "42", None),
    ("last_line", "one\n**two.**\n\n", "two"),
    ("last_line", " \n", None),
    ("last_number", "3 of 10, so -1,234.50 in all.", "-1234.5"),
    ("last_number", "1e3", "1000"),
    ("last_number", "1e9999999", None),
    ("last_number", "none", None),
    ("text", "  (3 + 4)\n * 2. ", "(3 + 4) * 2"),
    ("text", "", None),
    ("json_field:answer", 'it is {"answer": 1} no: {"answer": 4.0}', "4"),
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
    with pytest.raises(ValueError, match=r"there are boxed, last_line, last_number, text and json_field:NAME"):
        extractor(name)


@given(st.text(), st.sampled_from(["boxed", "last_line", "last_number", "text", "json_field:a"]))
def test_any_text_can_be_read(text: str, name: str) -> None:
    found = extractor(name)(text)
    assert found is None or found


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_number_has_one_spelling(number: object) -> None:
    read = extractor("last_number")
    assert read(f"{number:,}") == read(f"{number:.6f}") == read(str(read(f"{number}")))


@pytest.mark.parametrize("name", ["boxed", "last_line", "last_number", "text", "json_field:a"])
@pytest.mark.parametrize(
    "piece", [r"\boxed{", r"\boxed ", "{", '{"', '{"a":', '{"a":[', '{"a":"', "1,", "1e", "-", "9", "*", "\n", " ", "}"]
)
def test_a_long_repetitive_text_is_read_in_bounded_time(name: str, piece: str) -> None:
    began = time.process_time()
    extractor(name)(piece * (200_000 // len(piece)))
    assert time.process_time() - began < SECONDS
