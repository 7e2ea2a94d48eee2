"""Policies by name: those of the library, one's own, and the placebo of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .library import LIBRARY, Entry
from .placebo import PLACEBO, matches_of, placebo_of
from .spec import MAX_STRENGTH_NATS, InputError, Match, Policy, name_some

_STRENGTH = {
    "strength": {
        "default": None,
        "minimum": 0,
        "maximum": MAX_STRENGTH_NATS,
        "meaning": "with match `dose`: how far the logits of other tokens move apart, in nats; `forkpoint ab` finds it",
    }
}


@dataclass(frozen=True)
class Named:
    """A policy that requests can name: the library's, one that the server was started with, or the placebo of either.

    `caution` says where its evidence is weak; `match` are the kinds that a placebo can be matched by, the default
    first.
    """

    policy: Policy
    entry: Entry | None = None
    of: Policy | None = None  # what this is the placebo of
    match: tuple[Match, ...] = ()
    builtin: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """What `with` may hold, by name."""
        own = (
            {name: parameter.to_dict() for name, parameter in self.entry.parameters.items()}
            if self.entry is not None
            else {}
        )
        if self.of is None:
            return own
        meaning = {
            "default": self.match[0],
            "one_of": list(self.match),
            "meaning": "what the placebo has in common with the policy",
        }
        return {"match": meaning, **(_STRENGTH if "dose" in self.match else {}), **own}

    def use(self, values: Mapping[str, Any], field: str = "policy.with") -> Policy:
        """The policy with these parameters. Raises InputError with the path of a wrong one."""
        for name in values:
            if name not in self.parameters:
                known = name_some(self.parameters, name) or "it has none"
                raise InputError(
                    f"{field}.{name}", f"is not a parameter of {self.policy.name!r}; its parameters: {known}"
                )
        placebo = ("match", "strength") if self.of is not None else ()
        own = {name: value for name, value in values.items() if name not in placebo}
        plain = self.entry.use(own, field) if self.entry is not None else self.of or self.policy
        if self.of is None:
            return plain
        match = values.get("match", self.match[0])
        if match not in self.match:
            raise InputError(f"{field}.match", f"must be one of {', '.join(self.match)}, not {match!r}")
        return placebo_of(plain, match, field, _strength(values, match, field))

    def to_dict(self) -> dict[str, Any]:
        """As the API shows it."""
        rules = self.policy.model_dump(mode="json", exclude_unset=True)
        return {
            **rules,
            "description": self.policy.description,
            "source": self.policy.source,
            "object": "policy",
            "digest": self.policy.digest,
            "builtin": self.builtin,
            "caution": self.entry.caution if self.entry is not None else "",
            "compared": self.entry.compared if self.entry is not None else "",
            "parameters": self.parameters,
            "placebo": None if self.of is not None or not self.match else self.policy.name + PLACEBO,
            "match": list(self.match),
        }


def _strength(values: Mapping[str, Any], match: Match, field: str) -> float | None:
    """The strength of a placebo matched by dose, in nats; None of any other. Raises InputError."""
    strength = values.get("strength")
    if match != "dose":
        if "strength" in values:
            raise InputError(f"{field}.strength", f"is of match 'dose'; match {match!r} has none")
        return None
    number = float(strength) if isinstance(strength, int | float) and not isinstance(strength, bool) else math.nan
    if not 0 < number <= MAX_STRENGTH_NATS:
        raise InputError(
            f"{field}.strength",
            f"must be above 0 and at most {MAX_STRENGTH_NATS:g} nats for match 'dose', not {strength!r}; "
            "`forkpoint ab` finds it for a model",
        )
    return number


def with_placebo(policy: Policy, entry: Entry | None = None) -> Iterator[Named]:
    """A policy, and its placebo if it has one."""
    match = matches_of(policy)
    yield Named(policy, entry, None, match, entry is not None)
    if match:
        yield Named(placebo_of(policy), entry, policy, match, entry is not None)


def library() -> Iterator[Named]:
    """Every policy of the library, each followed by its placebo."""
    for entry in LIBRARY.values():
        yield from with_placebo(entry.policy, entry)
