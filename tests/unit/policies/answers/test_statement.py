"""Where in a text its answer stands."""

from __future__ import annotations

import time

import pytest

from forkpoint_policies.answers.mathematics import mathematics
from forkpoint_policies.answers.statement import statement


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("The answer is 42 (see eq. 3)", "42"),
        ("The answer is 3-4 = −1, so x = −1", "-1"),
        ("The answer is $\\frac{2}{4}$. I checked 3 cases.", "0.5"),
        ("Final Answer: The final answer is $12$. I hope it is correct.", "12"),
        ("**Answer:** 0.5", "0.5"),
        ("#### 1,000", "1000"),
        ("Answer: $\\frac{3}{4}$ of the cake", "0.75"),
        ("The answer is \\[ \\frac{3}{2} \\]", "1.5"),
        ("The answers are $1$ and $2$.", "{1, 2}"),
        ("The answer is 1,000 dollars.", "1000"),
        ("The answer is (B).", "B"),
        ("The answer is B, since 3 > 2.", "B"),
        ("Answer: B) 42", "B"),
        ("the answer: **Paris**", "paris"),
        ("The answer is Paris.", "paris"),
        ("The answer is not 5 but 7.", "7"),
        ("The answer is:\n\n$x = 3$", "3"),
        ("First the answer is 5. No: the answer is 6.", "6"),
        ("so the probability is $\\frac{1}{3}$.", "1/3"),
        ("x is 3, so \\(y = 7\\).", "7"),
        ("it costs $5 and $6", "6"),
        ("So we get 42.", "42"),
        ("x^2 + 1", "x^2 + 1"),
        ("It is Paris\n", "it is paris"),
        (" \n", None),
        ("", None),
    ],
)
def test_the_answer_of_a_text(text: str, stated: str | None) -> None:
    found = statement(text)
    assert (found if found is None else mathematics(found)) == stated


@pytest.mark.parametrize("piece", ["answer ", "answer is ", r"\[", "$ ", "$", "(", "1,", "answer: 1 ", "\n", "####"])
def test_a_long_repetitive_text_is_read_in_bounded_time(piece: str) -> None:
    began = time.process_time()
    statement(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 5.0
