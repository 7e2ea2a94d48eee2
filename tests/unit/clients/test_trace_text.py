"""What a trace says: its texts, its reasoning and answer, as rows, as a plot and in a notebook."""

from __future__ import annotations

import re
from typing import Any

import pytest

from forkpoint_clients.types import Trace

TRUNK = {
    "index": 0, "begun": 0, "tokens": ["So", " 7", "</t>", " 9", "<e>"], "token_ids": [1, 2, 3, 4, 99],
    "positions": [0, 1, 2, 3, 4], "entropies": [1.9, 0.1, 0.2, 0.0, 0.0], "written": [1],
    "in_reasoning": [True, True, True, False, False], "actions": [["force"], [], [], [], []],
}  # fmt: skip
BRANCH = {
    "index": 1, "begun": 2, "tokens": ["!", "</t>", " 8", "<e>"], "token_ids": [5, 3, 6, 99], "positions": [2, 3, 4, 5],
    "entropies": [0.3, 0.2, 0.0, 0.0], "in_reasoning": [True, True, False, False],
}  # fmt: skip
NODES = [
    {"index": 0, "tokens_generated": 5, "ended": "stop", "answer": "9"},
    {"index": 1, "parent": 0, "position": 1, "tokens": [" 6"], "token_ids": [7], "tokens_shared": 1,
     "tokens_generated": 5, "ended": "stop", "answer": "8", "chosen": True},
]  # fmt: skip
POINT = {"choice": 0, "index": 0, "token": "So", "entropy": 1.9, "connector": "conclusion", "effect": 0.75}
DATA: dict[str, Any] = {
    "id": "chatcmpl-1", "policy": "calm", "threshold": 0.672, "stop_token_ids": [99], "choices": [TRUNK, BRANCH],
    "fork_points": [POINT], "intervention_points": [POINT], "tree": {"nodes": NODES, "generated": 10, "shared": 1},
}  # fmt: skip


def trace(**changes: Any) -> Trace:
    return Trace.model_validate({**DATA, **changes})


def test_the_text_is_that_of_the_chosen_answer_with_its_trunk() -> None:
    found = trace()
    assert (found.text, found.reasoning, found.answer) == ("So 6!</t> 8", "So 6!</t>", " 8")
    assert found.text_of(0) == "So 7</t> 9"
    with pytest.raises(LookupError, match="no choice 7; it has 0, 1"):
        found.text_of(7)


def test_without_a_tree_it_is_the_first_choice() -> None:
    assert trace(tree=None).answer == " 9"


def test_reasoning_that_was_cut_off_has_no_answer() -> None:
    cut = {**TRUNK, "tokens": ["So", " 7"], "token_ids": [1, 2], "positions": [0, 1], "entropies": [1.9, 0.1],
           "in_reasoning": [True, True], "actions": []}  # fmt: skip
    assert trace(tree=None, choices=[cut]).answer == ""


def test_a_text_without_reasoning_is_all_answer() -> None:
    plain = {"index": 0, "tokens": ["a", "b"], "positions": [0, 1], "entropies": [0.1, 0.2]}
    found = Trace.model_validate({"choices": [plain]})
    assert (found.answer, found.reasoning) == ("ab", "")


def test_characters_of_several_tokens_are_whole() -> None:
    written = "你好"
    pieces = [written.encode()[:2], written.encode()[2:4], written.encode()[4:]]
    choice = {
        "index": 0, "begun": 0, "tokens": ["�", "�", "�"], "positions": [0, 1, 2], "entropies": [0.1, 2.0, 0.3],
        "token_bytes": {str(number): piece.hex() for number, piece in enumerate(pieces)},
    }  # fmt: skip
    found = Trace.model_validate({"choices": [choice]})
    assert found.text == written
    page = found._repr_html_()
    assert "你" in page
    assert "好" in page
    assert "�" not in page


def test_one_row_per_generated_token() -> None:
    frame = trace().to_dataframe()
    assert list(zip(frame["choice"], frame["position"], strict=True)) == [
        *((0, position) for position in range(5)), *((1, position) for position in range(2, 6)),
    ]  # fmt: skip
    first = frame.iloc[0]
    assert (first["token"], first["entropy"], first["fork"], first["connector"]) == ("So", 1.9, True, "conclusion")
    assert (first["actions"], first["effect"]) == ("force", 0.75)
    assert list(frame["forced"][:3]) == [False, True, False]
    assert frame["in_reasoning"].sum() == 5


def test_a_panel_for_each_choice() -> None:
    figure = trace().plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["choice 1\nentropy (nats)", "choice 0\nentropy (nats)"]
    (drawn,) = figure.axes[1].collections
    heights = [segment[1][1] for segment in drawn.get_segments()]  # type: ignore[attr-defined]
    assert heights == [1.9, 0.1, 0.2, 0.0, 0.0]


def test_a_notebook_shows_facts_scale_answers_and_marks() -> None:
    found = trace()
    found._server = "http://h:8000"
    page = found._repr_html_()
    text = re.sub("<[^>]*>", "|", page)
    assert "2 choices, 9 tokens, 1 forks, policy calm, 1 tokens with an effect" in text
    assert "2.5" in text, "the scale's end"
    assert 'href="http://h:8000/forkpoint#trace=chatcmpl-1"' in page
    assert "chosen" in text
    assert "5 + 1 shared" in text
    assert text.count("|answer|") == 3, "of the two texts, and a column of the table"
    assert page.count("wavy") == 2, "the token, and the legend"
    assert page.count("outline: 1px") == 2


def test_marks_that_do_not_occur_are_not_explained() -> None:
    plain = {"index": 0, "tokens": ["a"], "positions": [0], "entropies": [0.1]}
    page = Trace.model_validate({"choices": [plain]})._repr_html_()
    assert "policy acted" not in page
    assert ">forced<" not in page
    assert ">fork<" not in page


def test_a_trace_is_short_in_a_terminal() -> None:
    assert repr(trace()) == (
        "Trace(id='chatcmpl-1', 2 choices, 9 tokens, 1 forks, policy calm, 1 tokens with an effect)"
    )
    assert str(trace()) == repr(trace())
