"""Any data sent as a policy gives a policy or an InputError, in bounded time; no other exception is ever raised."""

from __future__ import annotations

import string
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from forkpoint_policies.compile.compiler import MAX_ENTRIES, ServedModel, compile_policy
from forkpoint_policies.compile.regions import single_token_regions
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_policies.spec.size_limits import MAX_DEPTH, MAX_FIELDS, MAX_LISTED
from tests.unit.policies.hostile import policies
from tests.unit.policies.vocabularies import MERGES, TARGET, byte_vocabulary

SECONDS = 10.0
"""Ample for a busy machine; before the limits existed, these took minutes."""


def tried(data: Any, target: ServedModel = TARGET) -> str | None:
    """The error of invalid data, or None."""
    began, said = time.process_time(), None
    try:
        compile_policy(parse_policy(data), target).program.pack()
    except InputError as error:
        said = str(error)
    assert time.process_time() - began < SECONDS
    assert said is None or said.startswith("policy")
    return said


@given(policies)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
def test_any_data_is_a_policy_or_an_input_error(data: Any) -> None:
    tried(data)


@pytest.mark.soak
@given(policies)
@settings(max_examples=20_000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
def test_any_data_is_a_policy_or_an_input_error_at_length(data: Any) -> None:
    tried(data)


def suppress(**tokens: Any) -> dict[str, Any]:
    return {"rules": [{"do": {"suppress": tokens}}]}


@pytest.mark.parametrize(
    ("data", "field", "said"),
    [
        ({"rules": [{"do": {"observe": {}}}] * 100_000}, "policy.rules", f"100000 entries.*{MAX_LISTED}"),
        ({"rules": [{"do": {"observe": {}}}] * 17}, "policy.rules", "at most 16"),
        (suppress(token_ids=list(range(1_000_000))), "policy.rules[0].do.suppress.token_ids", "1000000 entries"),
        (suppress(words=["a"] * 100_000), "policy.rules[0].do.suppress.words", "100000 entries"),
        ({f"field{number}": 1 for number in range(100_000)}, "policy", f"100000 fields.*{MAX_FIELDS}"),
        ({"rules": [{"do": {"observe": [[1] * 4000] * 4000}}]}, "policy", "too large"),
    ],
)
def test_oversized_policies_are_rejected_quickly(data: Any, field: str, said: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError, match=said) as caught:
        parse_policy(data)
    assert caught.value.field == field
    assert time.process_time() - began < 1


def test_policies_that_nest_too_deeply_are_rejected() -> None:
    data: Any = {"observe": {}}
    for _ in range(100_000):
        data = {"control": {"like": {"do": data}}}
    with pytest.raises(InputError, match=f"nested too deeply; at most {MAX_DEPTH}") as caught:
        parse_policy({"rules": [{"do": data}]})
    assert caught.value.field.startswith("policy.rules[0].do.control.like.do")
    while isinstance(data, dict) and data:  # taken apart by hand: Python's own deallocation recurses
        data = next(iter(data.values()))


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_is_far_from_the_bounds(name: str) -> None:
    program = compile_policy(LIBRARY[name].policy, replace(TARGET, frequencies={1: 0.5})).program
    assert all(len(rule.target.tokens) < MAX_ENTRIES // 4 for rule in program.rules)


LETTERS = string.ascii_lowercase
LARGE = byte_vocabulary(
    *MERGES, "a" * 64, *dict.fromkeys(space + one + two for space in ("", " ") for one in LETTERS for two in LETTERS),
    *(chr(0x4E00 + one) + chr(0x4E00 + two) for one in range(80) for two in range(80)),
)  # fmt: skip
ADVERSARIAL = {
    "long common beginnings": ["ΐ" * 60 + chr(0x3B1 + one % 20) + chr(0x3B1 + one // 20) for one in range(400)],
    "case folding to longer text": ["ß" * 63 + chr(0x430 + one) for one in range(300)],
    "one letter": ["a" * length for length in range(1, 65)],
    "two letters": [(one + two) * 32 for one in LETTERS for two in LETTERS][:60],
    "words of signs": ["." * length for length in range(1, 65)] + ["a." * length + "a" for length in range(1, 31)],
    "pictures": [sign * length for sign in "\U0001f600\U0001f601" for length in range(1, 65)],
    "signs that are words": [chr(0x4E00 + one) for one in range(80)],
    "what cannot be written, last": ["a" * length for length in range(1, 65)] + ["\ue000" * 64],
}


@pytest.mark.parametrize("words", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_words_that_are_chosen_to_take_long(words: list[str]) -> None:
    """They are amplified, for which the first tokens of words are searched as well."""
    data = {
        "rules": [{"do": {"amplify": {"words": words[at : at + 256], "bias": 1.0}}} for at in range(0, len(words), 256)]
    }
    end = LARGE.size - 1
    said = tried(data, replace(TARGET, vocabulary=LARGE, regions=single_token_regions(end - 2, end - 1), stop=end))
    assert said is None or "at most" in said or "ways to write" in said or "cannot write" in said


def test_one_set_of_words_stands_for_a_bounded_number_of_tokens() -> None:
    """Every row of a batch has room for the largest set that any policy in it names."""
    end = LARGE.size - 1
    large = replace(TARGET, vocabulary=LARGE, regions=single_token_regions(end - 2, end - 1), stop=end)
    with pytest.raises(InputError, match=f"{MAX_ENTRIES} at most") as caught:
        compile_policy(parse_policy(suppress(words=ADVERSARIAL["signs that are words"])), large)
    assert caught.value.field == "policy.rules[0].do.suppress"


@pytest.mark.parametrize(
    "data",
    [
        suppress(token_ids=["x"] * MAX_LISTED),
        suppress(words=[1] * 256),
        {"rules": [{"do": {"suppress": {"token_ids": ["x"] * MAX_LISTED}}}] * 16},
        {"rules": [{"do": {"suppress": {"words": [1] * 256, "token_ids": [-1] * MAX_LISTED}}}] * 16},
    ],
)
def test_of_many_errors_the_first_is_enough(data: Any) -> None:
    """Making an object of each took half a second, in which no other request was answered."""
    with pytest.raises(InputError) as caught:
        parse_policy(data)
    validation = caught.value.__context__
    assert isinstance(validation, ValidationError)
    assert validation.error_count() < 5
