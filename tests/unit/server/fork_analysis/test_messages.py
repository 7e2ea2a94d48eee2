"""Messages are read as chat reads them; of any number of wrong ones the first is reported."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_server.fork_analysis.messages import content_text, num_entries, read_messages, reasoning_text

USER = {"role": "user", "content": "x"}
Json = dict[str, Any]


def assistant(*parts: Any, **more: Any) -> Json:
    return {"role": "assistant", "content": list(parts), **more}


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([{"type": "output_text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "refusal", "refusal": "no"}], "no"),
        ([{"type": "thinking", "thinking": "so", "closed": True}, {"type": "input_text", "text": "b"}], "so\nb"),
        (["a", {"type": "output_text", "text": "b", "annotations": []}], "a\nb"),
        ([{"type": "tool_reference", "name": "f"}], "f"),
        ([], ""),
    ],
)
def test_parts_that_hold_text(parts: list[Any], text: str) -> None:
    *_, last = read_messages([USER, assistant(*parts)])
    assert content_text(last) == text
    assert {part["type"] for part in last["content"]} <= {"text", "tool_reference"}, (
        "what vLLM's renderer takes of an assistant"
    )


def test_a_content_that_is_text_or_missing() -> None:
    assert content_text({"role": "assistant", "content": "a"}) == "a"
    assert content_text({"role": "assistant", "content": None}) == ""
    assert content_text({"role": "assistant"}) == ""


def test_the_older_name_of_the_reasoning() -> None:
    """Chat takes it for the newer one, unless that is there too."""
    old, both = assistant(reasoning_content="so"), assistant(reasoning="then", reasoning_content="so")
    *_, last = read_messages([USER, both, old])
    assert reasoning_text(last) == "so"
    assert "reasoning_content" in old, "the request's own messages are left alone"
    assert reasoning_text(read_messages([USER, both])[-1]) == "then"
    with pytest.raises(InputError, match="must be a text"):
        reasoning_text({"role": "assistant", "reasoning": 5})


def test_tool_calls_without_a_content() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    *_, last = read_messages([USER, {"role": "assistant", "content": None, "tool_calls": [call]}])
    assert (content_text(last), last["tool_calls"]) == ("", [call])


@pytest.mark.parametrize(
    ("messages", "field", "said"),
    [
        ([USER, assistant({"type": "image_url", "image_url": {"url": "x"}})], "messages[1].content", "image_url"),
        ([USER, assistant({})], "messages[1].content", "type None"),
        ([USER, assistant({"type": ["text"]})], "messages[1].content", "only text"),
        ([USER, assistant({"type": "output_text"})], "messages[1].content", "without its text"),
        ([USER, assistant({"type": "text", "text": 5})], "messages[1].content", "without its text"),
        ([USER, assistant(5)], "messages[1].content", "type None"),
        ([{}, assistant("x")], "messages[0].role", "user, assistant"),
        ([{"role": ["user"]}, assistant("x")], "messages[0].role", "user, assistant"),
        ([USER, assistant("x", tool_calls=5)], "messages[1].tool_calls", "iterable"),
        ([{"role": "user", "content": None}, assistant("x")], "messages[0].content", "valid"),
    ],
)
def test_wrong_messages(messages: list[Json], field: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_messages(messages)
    assert caught.value.field == field
    assert len(str(caught.value)) < 400


def test_the_first_of_many_wrong_messages_is_enough() -> None:
    """Of a hundred thousand, vLLM's form alone makes a million and a half errors."""
    many_messages: list[Json] = [{"role": "user", "tool_calls": 5}] * 100_000
    many_tools: list[Json] = [{}] * 100_000
    for wrong, entries, tools in (
        ("messages", [*many_messages, assistant("x")], None),
        ("tools", [USER, assistant("x")], many_tools),
    ):
        with pytest.raises(InputError) as caught:
            read_messages(entries, tools)
        assert caught.value.field.startswith(f"{wrong}[0]")
        validation = caught.value.__context__
        assert validation is not None
        assert validation.error_count() < 100  # type: ignore[attr-defined]


def test_messages_and_their_parts_are_counted() -> None:
    assert num_entries([1, 2, 3]) == 3
    assert num_entries([USER, assistant("a", "b"), assistant(tool_calls=[{}] * 7)]) == 3 + 2 + 7
