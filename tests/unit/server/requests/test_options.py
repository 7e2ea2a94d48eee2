"""Options in a request's body: their values, their defaults, and errors that name the field."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_server.requests.options import DEFAULTS, RequestOptions, read_options


def test_options_are_read_from_the_body() -> None:
    body = {"model": "m", "forks": True, "policy_logprobs": True, "stop_in": "answer"}
    assert read_options(body) == RequestOptions(forks=True, policy_logprobs=True, stop_in="answer")


@pytest.mark.parametrize("body", [{}, dict.fromkeys(DEFAULTS), {"forks": False, "stop_in": "anywhere"}])
def test_options_that_are_missing_or_null_have_their_defaults(body: dict[str, Any]) -> None:
    assert read_options(body) == RequestOptions(forks=False, policy_logprobs=False, stop_in="anywhere")


@pytest.mark.parametrize("value", [1, "true", [], {}])
@pytest.mark.parametrize("name", ["forks", "policy_logprobs"])
def test_a_switch_is_true_or_false(name: str, value: Any) -> None:
    with pytest.raises(InputError, match="must be true or false") as caught:
        read_options({name: value})
    assert caught.value.field == name


@pytest.mark.parametrize("value", [True, "reasoning", ["answer"], 0])
def test_stop_in_is_one_of_two_words(value: Any) -> None:
    with pytest.raises(InputError, match='must be "answer" or "anywhere"') as caught:
        read_options({"stop_in": value})
    assert caught.value.field == "stop_in"
