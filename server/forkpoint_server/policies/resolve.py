"""Which policy does a request ask for: by the body's field, the header, the model's name; if by none, the server's default."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.spec import InputError, Policy, parse_policy

from .registry import Registry

HEADER = "x-forkpoint-policy"
FIELDS = ("policy", "forks")


NONE = "none"
"""Asks for no policy where the server has a default."""


@dataclass(frozen=True)
class Asked:
    """A policy, and the name that metrics count it by: bounded, so every inline one is `inline`."""

    policy: Policy
    label: str

    @staticmethod
    def by(name: str, policy: Policy) -> Asked:
        """What a named policy is counted as, whatever its parameters; a shadow does nothing, so it is counted apart."""
        return Asked(policy, f"{name} (shadow)" if policy.shadow else name)


@dataclass(frozen=True)
class Resolved:
    """What a request asked for. `body` is what vLLM shall read: without our fields, with the plain model name.

    `by_default`: the request named no policy, so it got the server's. `by_request`: it named one, or `none`.
    """

    asked: Asked | None
    forks: bool
    body: dict[str, Any]
    changed: bool
    by_default: bool = False
    by_request: bool = False


def resolve(
    body: dict[str, Any], header: str | None, models: Collection[str], registry: Registry, default: str | None
) -> Resolved:
    """Resolve a request. Raises InputError when what it asks for cannot be, or when two ways of asking disagree."""
    asked: dict[str, Asked | None] = {}
    if body.get("policy") is not None:
        asked["the body's `policy`"] = read_asked(body["policy"], registry)
    if header is not None:
        asked["the header X-Forkpoint-Policy"] = _by_name(header, registry, "X-Forkpoint-Policy")
    model, alias = split_model(body.get("model"), models)
    if alias is not None:
        asked[f"the model {body['model']!r}"] = _by_name(alias, registry, "model")
    if len({one and one.policy for one in asked.values()}) > 1:
        said = ", ".join(f"{place} says {one.policy.name if one else NONE!r}" for place, one in asked.items())
        raise InputError("policy", f"{said}; ask for one policy, in one place")
    forks = body.get("forks", False)
    if forks is None:
        forks = False
    if not isinstance(forks, bool):
        raise InputError("forks", f"must be true or false, not {forks!r}")
    kept = {key: value for key, value in body.items() if key not in FIELDS}
    if alias is not None:
        kept["model"] = model
    changed = alias is not None or len(kept) != len(body)
    by_default = not asked and default is not None
    chosen = next(iter(asked.values()), _by_name(default, registry, "--policy") if default is not None else None)
    return Resolved(chosen, forks, kept, changed, by_default, bool(asked))


def split_model(model: Any, models: Collection[str]) -> tuple[Any, str | None]:
    """`MODEL:NAME` of a served MODEL as (MODEL, NAME); anything else as it is, with None."""
    if isinstance(model, str) and model not in models and ":" in model:
        plain, _, name = model.rpartition(":")
        if plain in models:
            return plain, name
    return model, None


def _by_name(name: str, registry: Registry, field: str) -> Asked | None:
    return None if name == NONE else Asked.by(name, registry.get(name, field).policy)


def read_asked(asked: Any, registry: Registry) -> Asked | None:
    """What may stand in a body's `policy`: a name, a policy, or a use of one. Raises InputError."""
    if isinstance(asked, str):
        return _by_name(asked, registry, "policy")
    if isinstance(asked, dict) and "use" in asked:
        return _from_use(asked, registry)
    if isinstance(asked, dict):
        return Asked.by("inline", parse_policy(asked))
    raise InputError("policy", f"must be a policy's name or a policy object, not {type(asked).__name__}")


def _from_use(asked: dict[str, Any], registry: Registry) -> Asked:
    for key in asked:
        if key not in ("use", "with", "shadow"):
            raise InputError(f"policy.{key}", "is not a field beside `use`; here one can write use, with, shadow")
    name, parameters, shadow = asked["use"], asked.get("with") or {}, asked.get("shadow", False)
    if not isinstance(name, str):
        raise InputError("policy.use", f"must be a policy's name, not {type(name).__name__}")
    named = registry.get(name, "policy.use")
    if not isinstance(parameters, dict):
        raise InputError("policy.with", f"must be an object of parameters, not {type(parameters).__name__}")
    policy = named.use(parameters)
    if not isinstance(shadow, bool):
        raise InputError("policy.shadow", f"must be true or false, not {shadow!r}")
    return Asked.by(name, policy.in_shadow() if shadow else policy)
