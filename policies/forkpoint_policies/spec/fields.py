"""Number types, limits, schedules and token sets that conditions and actions share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

from .connectors import FAMILIES
from .size_limits import MAX_LISTED

MAX_RULES = 16
MAX_TOKENS = MAX_LISTED
MAX_WINDOW = 2048
MAX_BRANCHES = 256
MAX_NAME = 64
Region = Literal["reasoning", "answer", "any"]
Match = Literal["probability", "count", "frequency", "positions", "dose", "direction"]
WordMatch = Literal["any_case", "cased", "token", "bare_token"]
"""How `words` are found: whole and in any case; whole and as written; as the tokens that are this word, with or without
white space around it; or as the one token that is exactly this text."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Nats = Annotated[Number, Field(ge=0, le=50)]
SquareNats = Annotated[Number, Field(ge=0, le=1000)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Position = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
TokenId = Annotated[int, Field(ge=0, strict=True)]
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_NAME - 1}}}", re.ASCII)
Name = Annotated[str, StringConstraints(pattern=rf"^{_NAME.pattern}$")]


def is_name(text: str) -> bool:
    """Whether policies, experiments and arms can have this name."""
    return _NAME.fullmatch(text) is not None


def exactly_one(part: BaseModel, what: str) -> None:
    """Raise ValueError unless exactly one field is set."""
    present = sorted(part.model_fields_set)
    if len(present) != 1 or getattr(part, present[0]) is None:
        raise ValueError(f"{what} {', '.join(type(part).model_fields)}; it holds {', '.join(present) or 'none'}")


def check_words(words: Iterable[str]) -> None:
    """Raise ValueError for a blank word."""
    for word in words:
        if not word.strip():
            raise ValueError(f"the word {word!r} is blank; a word has at least one visible character")


def check_word_match(part: BaseModel) -> None:
    """Raise ValueError where `match` is set and no words are named."""
    if "match" in part.model_fields_set and not getattr(part, "words", ()):
        raise ValueError("`match` is about `words`, and none are named; families match in any case")


def check_families(names: Iterable[str]) -> None:
    """Raise ValueError when a connector family does not exist."""
    for name in names:
        if name not in FAMILIES:
            raise ValueError(f"there is no connector family {name!r}; there are {', '.join(FAMILIES)}")


class Strict(BaseModel):
    """Every part of a policy: unknown fields are errors, and instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReasoningLengths(Strict):
    """A position, as a multiple of the mean length of the served model's reasoning, which `forkpoint calibrate`
    measures."""

    reasoning_lengths: Annotated[Number, Field(gt=0, le=100)]


class NormalizedEntropyTemperature(Strict):
    """The temperature's factor as a function of the entropy H in nats: low + (high - low) · (H / ln V) ^ exponent, with
    the V tokens of the vocabulary, as in llama.cpp's dynamic temperature."""

    low: Annotated[Number, Field(ge=0, le=100)]
    high: Annotated[Number, Field(ge=0, le=100)]
    exponent: Annotated[Number, Field(gt=0, le=100)] = 1.0


def is_object(value: Any) -> str:
    """The tag of a value that is either plain or an object."""
    return "object" if isinstance(value, dict | BaseModel) else "value"


VALUE, OBJECT, WHICH = Tag("value"), Tag("object"), Discriminator(is_object)
"""A plain value or an object: errors are reported for the kind that was written."""
Length = Annotated[
    Annotated[int, Field(ge=1, le=10_000_000, strict=True), VALUE] | Annotated[ReasoningLengths, OBJECT], WHICH
]
Place = Annotated[Annotated[Position, VALUE] | Annotated[ReasoningLengths, OBJECT], WHICH]


class Schedule(Strict):
    """A number that depends on the position in the generated text.

    `linear` goes from `start` at position 0 to `end` at position `over` and stays there. `triangular` is a wave that
    starts at 0, rises to `amplitude` at a quarter of its `period`, falls to -`amplitude` at three quarters, and returns
    to 0.
    """

    shape: Literal["linear", "triangular"]
    start: Annotated[Number, Field(ge=-1000, le=1000)] | None = None
    end: Annotated[Number, Field(ge=-1000, le=1000)] | None = None
    over: Length | None = None
    amplitude: Annotated[Number, Field(gt=0, le=1000)] | None = None
    period: Annotated[int, Field(ge=4, le=10_000_000, strict=True)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Schedule:
        needed = {"linear": ("start", "end", "over"), "triangular": ("amplitude", "period")}[self.shape]
        present = self.model_fields_set - {"shape"}
        if present != set(needed):
            raise ValueError(f"a {self.shape} schedule takes {', '.join(needed)}, all of them and nothing else")
        return self

    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that it takes."""
        if self.shape == "triangular":
            height = self.amplitude or 0.0
            return -height, height
        ends = self.start or 0.0, self.end or 0.0
        return min(ends), max(ends)


class EntropyTemperature(Strict):
    """The temperature's factor as a function of the entropy H in nats: scale · base ^ (exponent / H), as in EDT
    (arXiv:2403.14541).

    Below MIN_TEMPERATURE of the kernel, the likeliest token is sampled almost surely.
    """

    scale: Annotated[Number, Field(gt=0, le=100)] = 1.0
    base: Annotated[Number, Field(gt=0, le=1)]
    exponent: Annotated[Number, Field(gt=0, le=100)]


Fall = Annotated[Annotated[Number, Field(lt=0, ge=-1000), VALUE] | Annotated[Schedule, OBJECT], WHICH]
Rise = Annotated[Annotated[Number, Field(gt=0, le=1000), VALUE] | Annotated[Schedule, OBJECT], WHICH]


def _which_heat(value: Any) -> str:
    normalized = isinstance(value, NormalizedEntropyTemperature) or (
        isinstance(value, dict) and bool(value.keys() & {"low", "high"})
    )
    return "normalized" if normalized else is_object(value)


Heat = Annotated[
    Annotated[Number, Field(ge=0, le=100), VALUE]
    | Annotated[EntropyTemperature, OBJECT]
    | Annotated[NormalizedEntropyTemperature, Tag("normalized")],
    Discriminator(_which_heat),
]
Chance = Annotated[Annotated[Probability, VALUE] | Annotated[Schedule, OBJECT], WHICH]


class Tokens(Strict):
    """A set of tokens, named by connector family, by whole words in every spelling, or by token id.

    `match` says how `words` are found: `any_case`; `cased`, as they are written; `token`, only by tokens that are the
    word, with or without white space around it; `bare_token`, only by the token that is exactly this text.
    """

    connectors: tuple[Word, ...] = Field(default=(), max_length=32, fail_fast=True)
    words: tuple[Word, ...] = Field(default=(), max_length=256, fail_fast=True)
    token_ids: tuple[TokenId, ...] = Field(default=(), max_length=MAX_TOKENS, fail_fast=True)
    match: WordMatch = "any_case"

    @model_validator(mode="after")
    def _check(self) -> Tokens:
        if not self._any_named():
            *some, last = _listed(type(self))
            raise ValueError(f"names no token; give a non-empty list of {', '.join(some)} or {last}")
        check_families(self.connectors)
        check_words(self.words)
        check_word_match(self)
        return self

    def _any_named(self) -> bool:
        return bool(self.connectors or self.words or self.token_ids)


def _listed(part: type[BaseModel]) -> list[str]:
    return [name for name, field in part.model_fields.items() if field.default == ()]


Share = Annotated[Number, Field(gt=0, le=1)]
