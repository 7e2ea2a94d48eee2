"""Data sets: which lines are valid, and the errors for those that are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkpoint_clients.evaluate.datasets import DataError, digest, read

GOOD = """\
{"question": "2 + 2?", "answer": "4"}

{"messages": [{"role": "system", "content": "A"}, {"role": "user", "content": "6?"}], "answer": 6, "id": "3", "by": 1}
{"question": "a line separator\u2028 is no line end"}
"""


def test_lines(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(GOOD)
    first, second, third = read(str(file))
    assert (first.id, first.messages, first.answer) == ("line-1", ({"role": "user", "content": "2 + 2?"},), "4")
    assert (second.id, len(second.messages), second.answer) == ("3", 2, 6)
    assert (third.id, third.answer) == ("line-4", None)
    assert read(str(file), 2) == [first, second]


WRONG = {
    "not JSON": ('{"question": "a"}\n{"question"', r"line 2: is not JSON"),
    "not an object": ("[1]", r"line 1: must be an object with `question` or `messages`, not \[1\]"),
    "neither": ('{"prompt": "a"}', "line 1: needs one of `question` and `messages`, and has neither"),
    "both": ('{"question": "a", "messages": []}', "line 1: needs one of .*, and has both"),
    "not a text": ('{"question": 3}', "line 1: `question` must be a text, not 3"),
    "empty": ('{"question": " "}', "line 1: `question` must be a text"),
    "no messages": ('{"messages": []}', r"line 1: `messages` must be a list of messages, not \[\]"),
    "no role": ('{"messages": [{"content": "a"}]}', r"line 1: `messages\[0\]` must be an object with `role`"),
    "wrong id": ('{"question": "a", "id": true}', "line 1: `id` must be a text or a whole number, not true"),
    "same id": ('{"question": "a", "id": 1}\n\n{"question": "b", "id": "1"}', "line 3: the id '1' is taken by line 1"),
    "nothing": ("\n\n", "has no questions; a line is an object such as"),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_lines(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        read(str(file))


@pytest.mark.parametrize(
    ("source", "limit", "said"),
    [
        ("nowhere.jsonl", None, "nowhere.jsonl cannot be read"),
        ("countdown:medium", None, "there is no generator countdown:medium; there are countdown:easy, countdown:hard"),
        ("countdown:easy", 10**6, "there are .* held-out easy puzzles, 1000000 were requested"),
        ("countdown:hard", 0, "at least 1"),
    ],
)
def test_wrong_sources(source: str, limit: int | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(source, limit)


def test_puzzles_are_the_same_every_time() -> None:
    items = read("countdown:easy", 5)
    assert items == read("countdown:easy", 7)[:5]
    assert items != read("countdown:easy", 5, seed=1)
    assert len({item.id for item in items}) == 5
    assert len(items[0].answer["numbers"]) == 3


def test_the_digest_depends_on_every_item_and_their_order() -> None:
    items = read("countdown:easy", 3)
    assert digest(items) == digest(list(items))
    assert len({digest(items), digest(items[:2]), digest(items[::-1])}) == 3
