"""The policy language: what a user writes, its wire format and its JSON Schema. Data only; no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails

from .connectors import FAMILIES

DEFAULT_FORK_THRESHOLD_NATS = 0.672
"""The 80th percentile of Qwen3-8B's token entropies on one task (arXiv:2506.01939); what uncalibrated models get."""

MOST_RULES = 16
MOST_TOKENS = 4096

Region = Literal["reasoning", "answer", "any"]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Nats = Annotated[Number, Field(ge=0, le=50)]
SquareNats = Annotated[Number, Field(ge=0, le=1000)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Position = Annotated[int, Field(ge=0, le=10_000_000, strict=True)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class PolicyError(ValueError):
    """A policy that cannot be used; `field` is the path of what is wrong, as in `policy.rules[0].do`."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


def check_families(names: Iterable[str]) -> None:
    """Raise ValueError when a connector family does not exist."""
    for name in names:
        if name not in FAMILIES:
            raise ValueError(f"there is no connector family {name!r}; there are {', '.join(FAMILIES)}")


class Strict(BaseModel):
    """Every part of a policy: unknown fields are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tokens(Strict):
    """A set of tokens, named by connector family, by whole words in every spelling, or by token id."""

    connectors: tuple[Word, ...] = Field(default=(), max_length=32)
    words: tuple[Word, ...] = Field(default=(), max_length=256)
    token_ids: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(default=(), max_length=MOST_TOKENS)

    @model_validator(mode="after")
    def _check(self) -> Tokens:
        if not (self.connectors or self.words or self.token_ids):
            raise ValueError("names no token; give a non-empty list of connectors, words or token_ids")
        check_families(self.connectors)
        for word in self.words:
            if not word.strip():
                raise ValueError(f"the word {word!r} is blank; a word has at least one visible character")
        return self


class Suppress(Tokens):
    """Lower the logits of these tokens by a bias, or, without one, never draw them."""

    bias: Annotated[Number, Field(lt=0, ge=-1000)] | None = None


class Amplify(Tokens):
    """Raise the logits of these tokens by a bias."""

    bias: Annotated[Number, Field(gt=0, le=1000)]


class Observe(Strict):
    """Mark the position and change nothing."""


class When(Strict):
    """Conditions on a position; all that are given must hold, and none means always.

    Entropies are of the distribution at temperature 1, before the request's sampling parameters.
    """

    entropy_above: Nats | Literal["fork"] | None = None
    entropy_below: Nats | Literal["fork"] | None = None
    varentropy_above: SquareNats | None = None
    varentropy_below: SquareNats | None = None
    top_probability_above: Probability | None = None
    top_probability_below: Probability | None = None
    connectors: tuple[Word, ...] = Field(default=(), max_length=32)
    connector_probability_above: Probability | None = None
    region: Region = "any"
    after_token: Position | None = None
    before_token: Position | None = None
    at_most: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None

    @model_validator(mode="after")
    def _check(self) -> When:
        check_families(self.connectors)
        if self.connector_probability_above is not None and not self.connectors:
            raise ValueError("connector_probability_above needs `connectors`, the families whose probability is summed")
        if self.connectors and self.connector_probability_above is None:
            raise ValueError("`connectors` says nothing alone; add connector_probability_above")
        self._check_order("entropy_above", "entropy_below")
        self._check_order("varentropy_above", "varentropy_below")
        self._check_order("top_probability_above", "top_probability_below")
        if self.after_token is not None and self.before_token is not None and self.after_token >= self.before_token:
            raise ValueError(f"no position is both after_token {self.after_token} and before_token {self.before_token}")
        return self

    def _check_order(self, above: str, below: str) -> None:
        low, high = getattr(self, above), getattr(self, below)
        if low is None or high is None:
            return
        if low == high or (isinstance(low, float) and isinstance(high, float) and low >= high):
            raise ValueError(f"no position has {above} {low} and {below} {high}; the first must be the smaller one")


class Do(Strict):
    """What to do where the conditions hold: exactly one of the actions."""

    suppress: Suppress | None = None
    amplify: Amplify | None = None
    temperature: Annotated[Number, Field(gt=0, le=100)] | None = None
    observe: Observe | None = None

    @model_validator(mode="after")
    def _check(self) -> Do:
        given = sorted(self.model_fields_set)
        if len(given) != 1 or getattr(self, given[0]) is None:
            said = ", ".join(given) or "none"
            raise ValueError(f"must hold exactly one action of {', '.join(type(self).model_fields)}; it holds {said}")
        return self

    @property
    def action(self) -> str:
        """The name of the one action that is given."""
        return next(iter(self.model_fields_set))


class Rule(Strict):
    """One condition and one action."""

    when: When = When()
    do: Do


class Policy(Strict):
    """A named list of rules, applied in order: masks first, then biases, then temperature."""

    name: Name = "inline"
    description: Annotated[str, StringConstraints(max_length=4000)] = ""
    source: Annotated[str, StringConstraints(max_length=400)] = ""
    shadow: Annotated[bool, Field(strict=True)] = False
    rules: tuple[Rule, ...] = Field(max_length=MOST_RULES)

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that change with the policy: of the SHA-256 of its canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:8]

    def in_shadow(self) -> Policy:
        """The same policy, evaluated and recorded without changing anything."""
        return self.model_copy(update={"shadow": True})


def parse_policy(data: Any, field: str = "policy") -> Policy:
    """Read a policy from JSON-like data. Raises PolicyError with the path of the first field that is wrong."""
    if not isinstance(data, dict):
        raise PolicyError(field, f"must be an object with `rules`, not {type(data).__name__}")
    try:
        return Policy.model_validate(data)
    except ValidationError as error:
        raise _explain(error, field) from None


def _explain(error: ValidationError, field: str) -> PolicyError:
    errors = error.errors(include_url=False, include_context=False)
    first = errors[0]
    path = _path(first, field)
    if first["type"] == "extra_forbidden":
        known = ", ".join(_part_at(first["loc"][:-1]).model_fields) or "nothing"
        return PolicyError(path, f"is not a field of a policy; here one can write {known}")
    if first["type"] == "missing":
        return PolicyError(path, "is missing")
    if first["type"] == "string_pattern_mismatch":
        return PolicyError(
            path, "must be lower-case letters, digits, '.', '_' or '-', at most 64 of them, and begin with a letter or digit"
        )
    if first["type"] == "tuple_type":
        return PolicyError(path, "must be a list")
    if first["type"] == "model_type":
        return PolicyError(path, "must be an object")
    same = [one["msg"].removeprefix("Value error, ") for one in errors if _path(one, field) == path]  # several for a union
    return PolicyError(path, " or ".join([same[0], *(message.removeprefix("Input should be ") for message in same[1:])]))


def _path(error: ErrorDetails, field: str) -> str:
    path = field
    for part in error["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in _FIELDS or error["type"] in ("extra_forbidden", "missing"):
            path += f".{part}"  # other parts name pydantic's union members, which no user wrote
    return path


_PARTS: dict[str, type[BaseModel]] = {
    "rules": Rule,
    "when": When,
    "do": Do,
    "suppress": Suppress,
    "amplify": Amplify,
    "observe": Observe,
}
_FIELDS = set(Policy.model_fields).union(*(part.model_fields for part in _PARTS.values()))


def _part_at(location: tuple[int | str, ...]) -> type[BaseModel]:
    names = [part for part in location if isinstance(part, str) and part in _PARTS]
    return _PARTS[names[-1]] if names else Policy
