"""Where an answer's result is written."""

from __future__ import annotations

import pytest

from forkpoint_server.branching.answer_span import answer_span


@pytest.mark.parametrize(
    ("pieces", "extract", "answer", "span"),
    [
        (("So", " ", "18", "."), "last_number", "18", "18"),
        (("12", "+", "6", " = ", "1", "8", " apples"), "last_number", "18", "1|8"),
        (("it is ", "1,", "118", ".5", " $"), "last_number", "1118.5", "1,|118|.5"),
        (("-", "3", " C"), "last_number", "-3", "-|3"),
        (("as ", "\\box", "ed{", "7", "}", ", done"), "boxed", "7", "\\box|ed{|7|}"),
        (("yes", "\n", "**No", ".**", "\n"), "last_line", "No", "**No"),
        (("so ", "\\boxed{", "\\frac", "12", "}"), "math", "0.5", "\\frac|12"),
        (("It is", " 0.5", " in 3", " steps"), "math", "3", " in 3"),
        (("é", "4", "é"), "last_number", "4", "4"),
        (("no", "thing"), "last_number", "4", None),
    ],
)
def test_the_tokens_of_the_result(pieces: tuple[str, ...], extract: str, answer: str, span: str | None) -> None:
    written = [piece.encode() for piece in pieces]
    found = answer_span(written, len("".join(pieces)), extract, answer)
    assert (None if found is None else "|".join(pieces[found[0] : found[1]])) == span


def test_what_a_stop_string_cut_off_is_not_read() -> None:
    assert answer_span([b"4", b" and ", b"4"], 1, "last_number", "4") == (0, 1)


def test_a_character_of_several_tokens() -> None:
    assert answer_span([b"\xc3", b"\xa9", b"4"], 2, "last_number", "4") == (2, 3)
