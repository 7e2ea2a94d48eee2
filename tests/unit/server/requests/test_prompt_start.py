"""What of a body is shown as the start of its prompt."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_server.requests.prompt_start import MAX_CHARACTERS, prompt_start


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "first"}]}, "first"),
        (
            {
                "messages": [
                    {"role": "user", "content": "first"},
                    {"role": "assistant", "content": "A"},
                    {"role": "user", "content": "last"},
                ]
            },
            "last",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "seen"}]}]}, "seen"),
        ({"input": "a response"}, "a response"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "parts"}]}]}, "parts"),
        ({"prompt": "plain"}, "plain"),
        ({"prompt": ["one", "two"]}, "two"),
        ({"prompt": [1, 2, 3]}, None),
        ({"messages": []}, None),
        ({"messages": [{"role": "user", "content": None}]}, None),
        ({"messages": "wrong"}, "wrong"),
        ({"messages": [{"role": "user", "content": [7]}]}, None),
        ({}, None),
    ],
)
def test_the_last_user_message_or_the_prompt(body: dict[str, Any], expected: str | None) -> None:
    assert prompt_start(body) == expected


def test_it_is_cut() -> None:
    assert prompt_start({"prompt": "x" * 1000}) == "x" * MAX_CHARACTERS
