"""Scorers: which answers are right, which are wrong, and which have no score."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.ab.comparison import score
from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.datasets import DataError, Item, read
from forkpoint_clients.evaluate.journal import Unit
from forkpoint_clients.evaluate.scorers import ScorerError, scorer


def item(answer: Any) -> Item:
    return Item("a", ({"role": "user", "content": "?"},), answer)


SCORED = [
    ("exact", "Paris", " **Paris**. ", 1),
    ("exact", "Paris", "It is Paris", 0),
    ("exact", "", "", 0),
    ("number", 1000, "so it is 1,000.0", 1),
    ("number", "#### 72", "… 72", 1),
    ("number", "4", "none", 0),
    ("boxed", "42", r"\boxed{42}", 1),
    ("boxed", r"\boxed{\frac12}", r"\boxed{\frac12}", 1),
    ("boxed", r"\frac{1}{2}", r"\boxed{\frac12}", 1),
    ("boxed", "0.5", r"\boxed{\frac12}", 1),
    ("boxed", "Paris", r"\boxed{\text{Paris}}", 1),
    ("boxed", "-3", r"\boxed{−3}", 1),
    ("boxed", "42", "42", 0),
    ("number", "-1,000", "so −1{,}000", 1),
    ("math", r"\frac{1}{2}", r"so \boxed{0.5}", 1),
    ("math", "0.5", r"\boxed{50\%}", 1),
    ("math", "50", r"\boxed{50\%}", 1),
    ("math", "1/3", "The answer is 0.333333.", 1),
    ("math", "1/3", "The answer is 0.3.", 0),
    ("math", r"x^2+2x+1", r"\boxed{(x+1)^2}", 1),
    ("math", r"x^2+2x+1", r"\boxed{(x+2)^2}", 0),
    ("math", "{1, 2}", r"The answers are $2$ and $1$.", 1),
    ("math", "5 cm", "The length is 5.", 1),
    ("math", "(B)", r"\boxed{\text{B}}", 1),
    ("math", "so #### 72", "It is 72 apples.", 1),
    ("math", "4", "", 0),
    ("last_line", "b", "a\nb", 1),
    ("json_field:x", "3", '{"x": 3.0}', 1),
    (r"regex:answer: (\w+)", "b", "answer: a\nanswer: b", 1),
    (r"regex:answer: (\w+)", "a", "answer: a\nanswer: b", 0),
    (r"regex:answer: (\S+)", "1000", "answer: 1,000.", 1),
    (r"regex:answer: (\S+)", "-3", "answer: −3", 1),
    (r"regex:^b$", None, "a\nb", 1),
    (r"regex:^c$", None, "a\nb", 0),
    ("countdown", {"numbers": [3, 7, 2], "target": 17}, "7 * 2 + 3", 1),
    ("countdown", {"numbers": [3, 7, 2], "target": 17}, "7 + 7 + 3", 0),
    ("command:grep -q 42", None, "it is 42", 1),
    ("command:grep -q 42", None, "it is 43", 0),
    ("command:cat", None, "0.25", 0.25),
    ("command:sh -c 'grep -qx \"$FORKPOINT_ANSWER\"'", "x y", "x y", 1),
]


@pytest.mark.parametrize(("name", "answer", "text", "expected"), SCORED)
def test_scores(name: str, answer: Any, text: str, expected: float) -> None:
    assert scorer(name).score(item(answer), text) == expected


FUNCTIONS = """
import sys, time
INSIDE = []
def alone(text, answer):
    INSIDE.append(text)
    time.sleep(0.01)
    return float(len(INSIDE) == 1 and INSIDE.pop() == text)
def same(text, answer): return text == answer
def partly(text, answer): return 0.5
def throws(text, answer): raise KeyError("gone")
def leaves(text, answer): sys.exit(3)
def nothing(text, answer): pass
def beyond(text, answer): return 2
def undefined(text, answer): return float("nan")
LIST = []
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    file = tmp_path / "scores.py"
    file.write_text(FUNCTIONS)
    return file


@pytest.mark.parametrize(("function", "text", "expected"), [("same", "4", 1), ("same", "5", 0), ("partly", "", 0.5)])
def test_a_function(functions: Path, function: str, text: str, expected: float) -> None:
    assert scorer(f"python:{functions}:{function}").score(item("4"), text) == expected


def test_a_function_is_called_once_at_a_time(functions: Path) -> None:
    measure = scorer(f"python:{functions}:alone")
    answers = {Unit("a", sample, "none"): Answer((Choice(str(sample), "", "stop"),)) for sample in range(8)}
    assert {one.score for one in score(answers, [item("4")], measure).values()} == {1.0}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("throws", "KeyError: 'gone'"),
        ("leaves", "SystemExit: 3"),
        ("nothing", "gave None, not a number from 0 to 1"),
        ("beyond", "gave 2, not"),
        ("undefined", "gave nan, not"),
    ],
)
def test_a_function_that_fails_marks_the_item(functions: Path, function: str, said: str) -> None:
    with pytest.raises(ScorerError, match=said):
        scorer(f"python:{functions}:{function}").score(item("4"), "4")


@pytest.mark.parametrize(
    ("command", "said"),
    [("sh -c 'echo bad >&2; exit 2'", "ended with 2: bad"), ("echo yes", "ValueError"), ("/nowhere/x", "FileNotFound")],
)
def test_a_command_that_fails_marks_the_item(command: str, said: str) -> None:
    with pytest.raises(ScorerError, match=said):
        scorer(f"command:{command}").score(item("4"), "4")


def test_an_invalid_puzzle_marks_the_item() -> None:
    with pytest.raises(ScorerError, match="TypeError"):
        scorer("countdown").score(item("17"), "7 * 2 + 3")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "guess",
            r"there is no scorer 'guess'; there are exact, number, boxed, last_line, math, countdown, gym, ",
        ),
        ("regex:(", "is not a regular expression"),
        ("regex:(a)(b)", "has 2 groups"),
        ("python:x.py", "must be python:FILE.py:FUNCTION"),
        ("python:/nowhere/x.py:f", "cannot be loaded: FileNotFoundError"),
        (f"python:{sys.executable}:f", "is not a Python file"),
        ("command:", "must be command:"),
        ("command:'", "No closing quotation"),
    ],
)
def test_wrong_names(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        scorer(name)


def test_a_file_without_the_function(functions: Path) -> None:
    with pytest.raises(ValueError, match="has no function 'LIST'"):
        scorer(f"python:{functions}:LIST")


def test_unscorable_items_are_rejected_before_any_request() -> None:
    scorer("countdown").check(read("countdown:easy", 2))
    scorer("regex:x").check([item(None)])
    with pytest.raises(DataError, match="question 'a' has no `answer`, which the scorer 'number' compares with"):
        scorer("number").check([item(1), item(None)])
