"""The process that computes with formulas: bounded in time, and restarted whatever happens to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from forkpoint_policies.answers import sympy_process
from forkpoint_policies.answers.sympy_process import SYMPY, SympyProcess


@pytest.fixture
def sympy() -> Iterator[SympyProcess]:
    process = SympyProcess()
    yield process
    process.close()


def test_a_formula_that_takes_too_long_has_no_spelling(sympy: SympyProcess) -> None:
    assert sympy.spelled("x + 1") == "x + 1"
    first = sympy._process
    began = time.monotonic()
    assert sympy.spelled("x^" * 40 + "2") is None
    assert time.monotonic() - began < sympy_process.REPLY_SECONDS
    assert sympy.spelled("1 + x") == "x + 1"
    assert sympy._process is first


def test_a_process_that_has_ended_is_replaced(sympy: SympyProcess) -> None:
    assert sympy.spelled("x + 1") == "x + 1"
    assert sympy._process is not None
    sympy._process.kill()
    sympy._process.wait()
    assert sympy.spelled("x + 2") == "x + 2"


def test_a_process_that_does_not_reply_is_replaced(sympy: SympyProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sympy_process, "START_SECONDS", 0.0)
    assert sympy.spelled("x + 1") is None
    assert sympy._process is None
    monkeypatch.undo()
    assert sympy.spelled("x + 2") == "x + 2"


def test_threads_share_it(sympy: SympyProcess) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(sympy.spelled, [f"x + {number}" for number in range(1, 9)]))
    assert found == [f"x + {number}" for number in range(1, 9)]


def test_no_text_is_evaluated_as_python() -> None:
    for text in ("__import__('os').getpid()", r"\text{__import__('os').getpid()}", "lambda: 1", "x.__class__"):
        assert not (SYMPY.spelled(text) or "").isdigit()


@pytest.mark.parametrize(
    ("reference", "answer", "agrees"),
    [
        ("0.5", "50\\%", True),
        ("50", "50\\%", True),
        ("1/3", "0.333333", True),
        ("\\frac{1}{3}", "0.3", False),
        ("2x+1", "y = 2x+1", True),
        ("(1,2)", "(2,1)", False),
        ("9^{9^{9^{9}}}", "1", False),
        ("", "", False),
    ],
)
def test_agreement_with_a_reference(reference: str, answer: str, agrees: bool) -> None:
    assert SYMPY.agree(reference, answer) is agrees
