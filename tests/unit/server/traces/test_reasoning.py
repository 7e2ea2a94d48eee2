"""Where the reasoning is, according to the model's two markers."""

from __future__ import annotations

import pytest

from forkpoint_policies.compile.program import NO_TOKEN
from forkpoint_server.traces.reasoning import after_reasoning, ends_in_reasoning

START, END = 8, 9


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [([], None), ([1, 2], None), ([1, START, 2], True), ([START, 1, END, 2], False), ([START, END, START], True)],
)
def test_the_last_marker_counts(tokens: list[int], expected: bool | None) -> None:
    assert ends_in_reasoning(tokens, START, END) is expected


def test_one_marker_for_both_or_none_leaves_it_unknown() -> None:
    assert ends_in_reasoning([1, START], START, START) is None
    assert ends_in_reasoning([1, START], NO_TOKEN, NO_TOKEN) is None


def test_the_text_after_the_last_end() -> None:
    assert list(after_reasoning([1, END, 2, END, 3, 4], END)) == [3, 4]
    assert list(after_reasoning([1, 2], END)) == [1, 2]
    assert list(after_reasoning([1, END], END)) == []
