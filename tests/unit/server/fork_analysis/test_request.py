"""Bodies of `POST /v1/forks`: each wrong one is rejected with the field at fault and what would be right."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from forkpoint_policies.spec import InputError
from forkpoint_server.fork_analysis.request import max_continuation_tokens, parse_request

PLAIN: dict[str, Any] = {"prompt": "x", "completion": "y"}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ([], "body", "object"),
        ({}, "messages", "prompt` and `completion"),
        ({"prompt": "x"}, "messages", "prompt alone"),
        ({**PLAIN, **CHAT}, "messages", "two ways"),
        ({**PLAIN, "policies": 1}, "policies", "one can write model, messages"),
        ({**PLAIN, "tools": []}, "tools", "without `messages`"),
        ({**PLAIN, "verify": 0}, "verify", "greater than or equal to 1"),
        ({**PLAIN, "verify": 3}, "verify", "6 is the fewest for one among 16 positions"),
        ({**PLAIN, "verify": 3, "positions": [1]}, "verify", "4 is the fewest"),
        ({**PLAIN, "verify": 3, "most_forks": 2}, "verify", "5 is the fewest"),
        ({**PLAIN, "verify": 3, "alternatives": 3, "fdr": 0.001}, "verify", "5 is the fewest"),
        ({**PLAIN, "verify": 10, "min_probability": 0.5}, "min_probability", "less than 0.5"),
        ({**PLAIN, "min_probability": 0.1}, "min_probability", "nothing without `verify`"),
        ({**PLAIN, "verify": 5000}, "verify", "160000 continuations"),
        ({**PLAIN, "verify": 5000}, "verify", "4096 at most"),
        ({**PLAIN, "verify": 10, "extract": "first"}, "extract", "there is no extractor 'first'"),
        ({**PLAIN, "verify": 10, "temperature": 0}, "temperature", "greater than 0"),
        ({**PLAIN, "alternatives": 3}, "alternatives", "nothing without `verify`"),
        ({**PLAIN, "seed": 3}, "seed", "nothing without `verify`"),
        ({**PLAIN, "verify": 10, "fdr": 1}, "fdr", "less than 1"),
        ({"prompt": [1, "2"], "completion": "y"}, "prompt", "valid"),
        ({**PLAIN, "stream": "yes"}, "stream", "boolean"),
        ({**PLAIN, "positions": [1]}, "positions", "nothing without `verify`"),
        ({**PLAIN, "verify": 10, "positions": []}, "positions", "at least 1"),
        ({**PLAIN, "verify": 10, "positions": [-1]}, "positions", "greater than or equal to 0"),
        ({**PLAIN, "verify": 10, "positions": [3, 3]}, "positions", "twice"),
        ({**PLAIN, "verify": 10, "positions": [3], "most_forks": 2}, "positions", "two ways"),
        ({**PLAIN, "verify": 100, "positions": list(range(40))}, "verify", "8000 continuations"),
    ],
)
def test_wrong_requests(body: Any, field: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_request(body)
    assert caught.value.field == field


def test_a_continuation_is_as_long_as_the_text_by_default() -> None:
    request = parse_request({**PLAIN, "verify": 10})
    assert [max_continuation_tokens(request, tokens) for tokens in (10, 1000)] == [256, 1000]
    assert max_continuation_tokens(parse_request({**PLAIN, "verify": 10, "max_tokens": 7}), 1000) == 7


def test_positions_are_of_the_text() -> None:
    request = parse_request({**PLAIN, "verify": 100, "positions": [0, 9]})
    assert max_continuation_tokens(request, 10) == 256
    with pytest.raises(InputError, match="has 9, and the text has 9 tokens"):
        max_continuation_tokens(request, 9)


def test_the_tokens_of_all_continuations_are_bounded() -> None:
    request = parse_request({**PLAIN, "verify": 100})
    with pytest.raises(
        InputError, match="3200 continuations of 4000 tokens would be up to 12800000 tokens; 10000000 at most"
    ):
        max_continuation_tokens(request, 4000)


MANY = 100_000


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ["x"] * MANY, "completion": "y"}, "prompt"),
        ({"prompt": "x", "completion": [-1] * MANY}, "completion"),
        ({"messages": [1] * MANY}, "messages"),
        ({"messages": [{}] * (MANY + 1)}, "messages"),
        ({**CHAT, "tools": [1] * MANY}, "tools"),
        ({**PLAIN, "verify": 10, "positions": ["x"] * MANY}, "positions"),
        ({**PLAIN, **{f"field{number}": 1 for number in range(MANY)}}, "field0"),
    ],
)
def test_the_first_of_many_errors_is_enough(body: Any, field: str) -> None:
    """Pydantic would make an object of each, which holds up everybody else's requests."""
    with pytest.raises(InputError) as caught:
        parse_request(body)
    assert caught.value.field == field
    validation = caught.value.__context__
    assert isinstance(validation, ValidationError)
    assert validation.error_count() < 5
