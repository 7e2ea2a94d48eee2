"""What `POST /v1/forks` may be asked, and what it may cost."""

from __future__ import annotations

from math import factorial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forkpoint_policies.spec import InputError
from forkpoint_policies.spec.answer_extractors import extractor

MAX_CONTINUATIONS = 4096
MAX_CONTINUED_TOKENS = 10_000_000
MIN_DEFAULT_TOKENS = 256
"""A continuation is given as many tokens as the whole text has, and at least these, unless it is said otherwise."""

_Token = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


class Asked(BaseModel):
    """A text, as messages of which the last is the assistant's, or as a prompt and its completion; and how to verify its forks.

    `verify` is how many continuations each of the likeliest `alternatives` is given at each of the `most_forks` forks with the
    highest entropies, or at these `positions` of the text, whatever their entropies; `fdr` is the share of false ones among the
    forks that are called verified.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    prompt: str | list[_Token] | None = None
    completion: str | list[_Token] | None = None
    verify: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    alternatives: Annotated[int, Field(ge=2, le=10, strict=True)] = 2
    most_forks: Annotated[int, Field(ge=1, le=1024, strict=True)] = 16
    positions: Annotated[list[_Token], Field(min_length=1, max_length=1024)] | None = None
    extract: str = "last_line"
    max_tokens: Annotated[int, Field(ge=1, le=MAX_CONTINUED_TOKENS, strict=True)] | None = None
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)] | None = None
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    stream: Annotated[bool, Field(strict=True)] = False

    @property
    def most_tried(self) -> int:
        """How many places are continued at most."""
        return self.most_forks if self.positions is None else len(self.positions)


_OF_VERIFYING = ("alternatives", "most_forks", "positions", "extract", "max_tokens", "temperature", "seed", "fdr")


def parse_asked(body: Any) -> Asked:
    """Read the request's body. Raises InputError with the field that is wrong."""
    if not isinstance(body, dict):
        raise InputError("body", "must be an object with `messages`, or with `prompt` and `completion`")
    try:
        asked = Asked.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = str(first["loc"][0]) if first["loc"] else "body"  # a name that is no text has no place
        if first["type"] == "extra_forbidden":
            raise InputError(field, f"is not known here; one can write {', '.join(Asked.model_fields)}") from None
        raise InputError(field, first["msg"]) from None
    _check_form(asked)
    _check_verifying(asked)
    return asked


def _check_form(asked: Asked) -> None:
    plain = [name for name in ("prompt", "completion") if getattr(asked, name) is not None]
    if asked.messages is not None and plain:
        raise InputError(
            "messages", f"and {plain[0]} are two ways to give a text; give `messages`, or `prompt` and `completion`"
        )
    if asked.messages is None and len(plain) < 2:
        said = f"; {plain[0]} alone is not a text with a beginning" if plain else ""
        raise InputError("messages", f"is missing; give `messages`, or `prompt` and `completion`{said}")
    if asked.messages is None:
        for name in ("tools", "chat_template_kwargs"):
            if getattr(asked, name) is not None:
                raise InputError(name, "says nothing without `messages`")


def _check_verifying(asked: Asked) -> None:
    if asked.verify is None:
        for name in _OF_VERIFYING:
            if name in asked.model_fields_set:
                raise InputError(name, "says nothing without `verify`, the number of continuations of each alternative")
        return
    try:
        extractor(asked.extract)
    except ValueError as error:
        raise InputError("extract", str(error)) from None
    fewest = fewest_continuations(asked.alternatives, asked.fdr)
    if asked.verify < fewest:
        raise InputError(
            "verify",
            f"is {asked.verify}: so few continuations cannot differ with certainty, even if all do; {fewest} is the fewest that "
            f"can verify a fork with {asked.alternatives} alternatives at an fdr of {asked.fdr:g}",
        )
    if asked.positions is not None:
        if "most_forks" in asked.model_fields_set:
            raise InputError("positions", "and most_forks are two ways to say where; give one of them")
        if len(set(asked.positions)) < len(asked.positions):
            raise InputError("positions", "names a position twice")
    continuations = asked.verify * asked.alternatives * asked.most_tried
    if continuations > MAX_CONTINUATIONS:
        raise InputError(
            "verify",
            f"would take up to {continuations} continuations (verify {asked.verify} × alternatives {asked.alternatives} × "
            f"{asked.most_tried} positions); {MAX_CONTINUATIONS} at most",
        )


def longest_continuation(asked: Asked, tokens: int) -> int:
    """The most tokens of a continuation of a text with so many. Raises InputError when all together may be too many.

    So it does for positions beyond the text.
    """
    if asked.positions is not None and max(asked.positions) >= tokens:
        raise InputError("positions", f"has {max(asked.positions)}, and the text has {tokens} tokens, counted from 0")
    longest = asked.max_tokens or max(MIN_DEFAULT_TOKENS, tokens)
    continuations = (asked.verify or 0) * asked.alternatives * asked.most_tried
    if continuations * longest > MAX_CONTINUED_TOKENS:
        raise InputError(
            "max_tokens",
            f"{continuations} continuations of {longest} tokens would be up to {continuations * longest} tokens; "
            f"{MAX_CONTINUED_TOKENS} at most: lower max_tokens, verify, alternatives or most_forks",
        )
    return longest


def fewest_continuations(alternatives: int, fdr: float) -> int:
    """How many continuations of each alternative Fisher's exact test needs to reach a p-value of `fdr` when all answers differ."""
    number = 1
    while factorial(alternatives) * factorial(number) ** alternatives / factorial(alternatives * number) > fdr:
        number += 1
    return number
