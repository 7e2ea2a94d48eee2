"""pydantic's errors as paths and messages that the author of JSON understands."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forkpoint_policies.spec.errors import InputError, explain, name_some, unknown_name


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern="^[a-z]+$")]
    size: int | None = None


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    parts: list[Part]
    either: int | list[int] = 0
    low: float = 0.0

    @model_validator(mode="after")
    def _check(self) -> Whole:
        if self.low < 0:
            raise ValueError("low: must not be negative")
        return self


def explained(data: Any, path: str = "", **options: Any) -> InputError:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(data)
    return explain(caught.value, Whole, path, **options)


@pytest.mark.parametrize(
    ("data", "field", "message"),
    [
        ({}, "parts", "is missing"),
        ({"parts": 1}, "parts", "must be a list"),
        ({"parts": [1]}, "parts[0]", "must be an object"),
        ({"parts": [{}]}, "parts[0].name", "is missing"),
        (
            {"parts": [{"name": "a", "colour": 1}]},
            "parts[0].colour", "is not a field here; here one can write name, size",
        ),
        ({"parts": [], "x": 1}, "x", "is not a field here; here one can write parts, either, low"),
        ({"parts": [], "either": "x"}, "either", "Input should be a valid integer"),
        ({"parts": [], "low": -1}, "low", "must not be negative"),
        (3, "body", "must be an object"),
    ],
)  # fmt: skip
def test_the_path_and_the_message(data: Any, field: str, message: str) -> None:
    error = explained(data)
    assert error.field == field
    assert error.message.startswith(message)


def test_the_path_starts_with_the_prefix() -> None:
    assert explained({"parts": [{}]}, "body").field == "body.parts[0].name"
    assert explained({"parts": [], "low": -1}, "body").message == "low: must not be negative"


def test_callers_name_the_model_and_choose_messages() -> None:
    assert explained({"parts": [], "x": 1}, noun="a whole").message.startswith("is not a field of a whole;")
    error = explained({"parts": [{"name": "A"}]}, messages={"string_pattern_mismatch": "must be in lower case"})
    assert (error.field, error.message) == ("parts[0].name", "must be in lower case")


def test_few_names_are_all_listed() -> None:
    assert unknown_name("arm", "c", ["a", "b"]) == "there is no arm 'c'; there are a, b"
    assert name_some(["a", "b"], "c") == "a, b"


def test_of_many_names_the_nearest_are_suggested() -> None:
    names = [*(f"other-{number}" for number in range(50)), "nowait", "nowait.placebo"]
    assert unknown_name("policy", "nowiat", names, "see there").endswith("did you mean nowait?")
    assert name_some(names, "nowiat") == "nowait and 51 more"


@pytest.mark.parametrize("wrong", ["x", "x" * 100_000])
def test_an_error_is_short_whatever_the_name(wrong: str) -> None:
    said = unknown_name("policy", wrong, [f"a-rather-long-name-{number}" for number in range(1000)], "see there")
    assert len(said) < 400
    assert said.endswith("and 990 more (see there)")
