"""What a library file holds: a policy as data, with the numbers that one may choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from forkpoint_policies.spec import MAX_TEXT, InputError, Policy, name_some, parse_policy

CALIBRATED = "calibrated"
"""Stands for the mean length of the served model's reasoning."""


@dataclass(frozen=True)
class Number:
    """A parameter between two bounds, inclusive; a whole one where `whole`. `other` is a word that may stand for it."""

    default: float | str
    low: float
    high: float
    meaning: str
    whole: bool = False
    other: str | None = None

    def read(self, value: Any, field: str) -> float | str:
        """The value if it can be one. Raises InputError."""
        if self.other is not None and value == self.other:
            return self.other
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            kind = "a whole number" if self.whole else "a number"
            also = f", or {self.other!r}" if self.other is not None else ""
            raise InputError(field, f"must be {kind} from {self.low:g} to {self.high:g}{also}, not {value!r}")
        if self.whole and value != int(value):
            raise InputError(field, f"must be a whole number, not {value!r}")
        return int(value) if self.whole else float(value)

    def to_dict(self) -> dict[str, Any]:
        return {"default": self.default, "minimum": self.low, "maximum": self.high, "meaning": self.meaning}


@dataclass(frozen=True)
class Text:
    """A parameter that is a text of at least `fewest` characters."""

    default: str
    meaning: str
    fewest: int = 1

    def read(self, value: Any, field: str) -> str:
        """The value if it can be one. Raises InputError."""
        if not isinstance(value, str) or not self.fewest <= len(value) <= MAX_TEXT:
            raise InputError(field, f"must be a text of {self.fewest} to {MAX_TEXT} characters, not {value!r}")
        return value

    def to_dict(self) -> dict[str, Any]:
        return {"default": self.default, "meaning": self.meaning}


@dataclass(frozen=True)
class Param:
    """Stands in a rule for a parameter's value, or for the product of several and of a constant, rounded where it is
    `whole`. A product with CALIBRATED is so many lengths of the served model's reasoning."""

    names: tuple[str, ...]
    times: float = 1.0
    whole: bool = False


def param(*names: str, times: float = 1.0, whole: bool = False) -> Param:
    return Param(names, times, whole)


@dataclass(frozen=True)
class Largest:
    """Stands in a rule for the largest of several parameters."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """Stands in a rule for the words in a text parameter, which are separated by commas."""

    name: str


@dataclass(frozen=True)
class First:
    """Stands in a rule for as many of these words as a parameter says."""

    name: str
    words: Sequence[str]


@dataclass(frozen=True)
class Entry:
    """A named policy: `rules` as a user would write them, with Param, Largest, Listed and First for parameters.

    `caution` says where its evidence is weak. `compared`, of a published one, says with which file of the authors' code
    it was compared, at which commit and on which day, what is the same and what differs; or that only the paper was.
    """

    name: str
    description: str
    source: str
    caution: str
    rules: Sequence[Mapping[str, Any]]
    compared: str = ""
    parameters: Mapping[str, Number | Text] = field(default_factory=dict)

    @property
    def policy(self) -> Policy:
        """The policy with every parameter at its default."""
        return self.use({})

    def use(self, values: Mapping[str, Any], path: str = "policy.with") -> Policy:
        """The policy with these parameters, the others at their defaults.

        Raises InputError with the path of the wrong one.
        """
        for name in values:
            if name not in self.parameters:
                known = name_some(self.parameters, name) or "it has none"
                raise InputError(f"{path}.{name}", f"is not a parameter of {self.name!r}; its parameters: {known}")
        read = {
            name: parameter.read(values[name], f"{path}.{name}") if name in values else parameter.default
            for name, parameter in self.parameters.items()
        }
        rules = _filled(self.rules, read)
        try:
            return parse_policy(
                {"name": self.name, "description": self.description, "source": self.source, "rules": rules}, "it"
            )
        except InputError as error:  # each parameter can be, but not these together
            raise InputError(path, f"makes no policy: {error}") from None


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    match part:
        case Param(names=(name,), times=1.0, whole=False):
            return values[name]
        case Param(names=names) if CALIBRATED in (values[name] for name in names):
            others = (values[name] for name in names if values[name] != CALIBRATED)
            return {"reasoning_lengths": part.times * prod(others)}
        case Param():
            product = part.times * prod(values[name] for name in part.names)
            return max(1, round(product)) if part.whole else product
        case Largest():
            return max(values[name] for name in part.names)
        case Listed():
            return [word for one in values[part.name].split(",") if (word := one.strip())]
        case First():
            return list(part.words[: values[part.name]])
        case Mapping():
            return {key: _filled(value, values) for key, value in part.items()}
        case list() | tuple():
            return [_filled(value, values) for value in part]
        case _:
            return part
