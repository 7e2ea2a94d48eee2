"""The body of `POST /v1/forks`, and limits on what it may cost."""

from __future__ import annotations

import re
from math import factorial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forkpoint_policies.spec import InputError
from forkpoint_policies.spec.answer_extractors import extractor
from forkpoint_policies.spec.errors import explain

MAX_CONTINUATIONS = 4096
MAX_CONTINUED_TOKENS = 10_000_000
MIN_PROBABILITY = 0.05
"""The default of the least probability of an alternative: a token that the model would hardly ever sample derails the
text when it is forced, which proves no fork."""

MIN_DEFAULT_TOKENS = 256
"""Without `max_tokens`, a continuation may be as long as the whole text, and at least this long."""

_FAST: Any = Field(fail_fast=True)
"""Only the first error of a list is reported, so pydantic need not make objects of millions of others."""
_MAX_MESSAGES: Any = Field(fail_fast=True, max_length=100_000)
"""More than any context has room for: that is checked later, and reading millions takes a second."""
_Token = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


class ForksRequest(BaseModel):
    """A text to analyse, and how to verify its forks.

    The text is `messages`, the last of which is the assistant's, or a `prompt` and its `completion`. `verify` is the
    number of continuations sampled from each of the likeliest `alternatives` with at least `min_probability`, at the
    `most_forks` forks with the highest entropies or at these `positions`. `fdr` is the expected share of false ones
    among the forks reported as verified.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    messages: Annotated[list[dict[str, Any]], _MAX_MESSAGES] | None = None
    tools: Annotated[list[dict[str, Any]], _MAX_MESSAGES] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    prompt: str | Annotated[list[_Token], _FAST] | None = None
    completion: str | Annotated[list[_Token], _FAST] | None = None
    verify: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    alternatives: Annotated[int, Field(ge=2, le=10, strict=True)] = 2
    min_probability: Annotated[float, Field(ge=0, lt=0.5)] = MIN_PROBABILITY
    most_forks: Annotated[int, Field(ge=1, le=1024, strict=True)] = 16
    positions: Annotated[list[_Token], Field(min_length=1, max_length=1024, fail_fast=True)] | None = None
    extract: str = "last_line"
    max_tokens: Annotated[int, Field(ge=1, le=MAX_CONTINUED_TOKENS, strict=True)] | None = None
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63, strict=True)] | None = None
    fdr: Annotated[float, Field(gt=0, lt=1)] = 0.05
    stream: Annotated[bool, Field(strict=True)] = False

    @property
    def max_positions(self) -> int:
        """An upper limit on the positions that are continued."""
        return self.most_forks if self.positions is None else len(self.positions)

    def without_text(self) -> ForksRequest:
        """The settings alone."""
        return self.model_copy(update=dict.fromkeys(_TEXT_FIELDS))


_TEXT_FIELDS = ("messages", "tools", "chat_template_kwargs", "prompt", "completion")
_VERIFY_FIELDS = (
    "alternatives", "min_probability", "most_forks", "positions", "extract", "max_tokens", "temperature", "seed", "fdr",
)  # fmt: skip


def parse_request(body: Any) -> ForksRequest:
    """Parse the request's body. Raises InputError naming the field at fault."""
    if not isinstance(body, dict):
        raise InputError("body", "must be an object with `messages`, or with `prompt` and `completion`")
    try:
        request = ForksRequest.model_validate(_with_one_unknown_field(body))
    except ValidationError as error:
        wrong = explain(error, ForksRequest)
        raise InputError(re.split(r"[.\[]", wrong.field)[0], wrong.message) from None  # `positions`, not `positions[3]`
    _check_form(request)
    _check_verification(request)
    return request


def _with_one_unknown_field(body: dict[str, Any]) -> dict[str, Any]:
    """The body with the first of the fields that do not exist: one error suffices."""
    fields = ForksRequest.model_fields  # computed at each access
    known = {name: value for name, value in body.items() if name in fields}
    unknown = next((name for name in body if name not in known), None)
    return known if unknown is None else {**known, unknown: body[unknown]}


def _check_form(request: ForksRequest) -> None:
    plain = [name for name in ("prompt", "completion") if getattr(request, name) is not None]
    if request.messages is not None and plain:
        raise InputError(
            "messages", f"and {plain[0]} are two ways to give a text; give `messages`, or `prompt` and `completion`"
        )
    if request.messages is None and len(plain) < 2:
        said = f"; {plain[0]} alone is not a text with a beginning" if plain else ""
        raise InputError("messages", f"is missing; give `messages`, or `prompt` and `completion`{said}")
    if request.messages is None:
        for name in ("tools", "chat_template_kwargs"):
            if getattr(request, name) is not None:
                raise InputError(name, "says nothing without `messages`")


def _check_verification(request: ForksRequest) -> None:
    if request.verify is None:
        for name in _VERIFY_FIELDS:
            if name in request.model_fields_set:
                raise InputError(name, "says nothing without `verify`, the number of continuations of each alternative")
        return
    try:
        extractor(request.extract)
    except ValueError as error:
        raise InputError("extract", str(error)) from None
    fewest = min_continuations(request.alternatives, request.fdr, request.max_positions)
    if request.verify < fewest:
        raise InputError(
            "verify",
            f"is {request.verify}: so few continuations cannot verify a fork, even if all differ; {fewest} is the "
            f"fewest for one among {request.max_positions} positions with {request.alternatives} alternatives at an "
            f"fdr of {request.fdr:g}",
        )
    if request.positions is not None:
        if "most_forks" in request.model_fields_set:
            raise InputError("positions", "and most_forks are two ways to say where; give one of them")
        if len(set(request.positions)) < len(request.positions):
            raise InputError("positions", "names a position twice")
    continuations = request.verify * request.alternatives * request.max_positions
    if continuations > MAX_CONTINUATIONS:
        raise InputError(
            "verify",
            f"would take up to {continuations} continuations (verify {request.verify} × "
            f"alternatives {request.alternatives} × {request.max_positions} positions); {MAX_CONTINUATIONS} at most",
        )


def max_continuation_tokens(request: ForksRequest, tokens: int) -> int:
    """The limit on one continuation's length, for a text of this many tokens.

    Raises InputError when all continuations together could be too long, and for positions beyond the text.
    """
    if request.positions is not None and max(request.positions) >= tokens:
        raise InputError("positions", f"has {max(request.positions)}, and the text has {tokens} tokens, counted from 0")
    longest = request.max_tokens or max(MIN_DEFAULT_TOKENS, tokens)
    continuations = (request.verify or 0) * request.alternatives * request.max_positions
    if continuations * longest > MAX_CONTINUED_TOKENS:
        raise InputError(
            "max_tokens",
            f"{continuations} continuations of {longest} tokens would be up to {continuations * longest} tokens; "
            f"{MAX_CONTINUED_TOKENS} at most: lower max_tokens, verify, alternatives or most_forks",
        )
    return longest


def min_continuations(alternatives: int, fdr: float, positions: int = 1) -> int:
    """The fewest continuations per alternative with which a single fork among `positions` can be verified.

    Fisher's exact test must then reach a p-value of fdr / positions, as Benjamini and Hochberg require of the smallest.
    """
    number = 1
    while factorial(alternatives) * factorial(number) ** alternatives / factorial(alternatives * number) > (
        fdr / positions
    ):
        number += 1
    return number
