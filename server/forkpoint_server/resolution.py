"""Which policy does a request get: the body's field, the header, the model's name, or the server's default."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.spec import Policy, PolicyError, parse_policy

from .registry import Registry

HEADER = "x-forkpoint-policy"
FIELDS = ("policy", "forks")


@dataclass(frozen=True)
class Resolved:
    """What a request asked for. `body` is what vLLM shall read: without our fields, with the plain model name."""

    policy: Policy | None
    forks: bool
    body: dict[str, Any]
    changed: bool


def resolve(
    body: dict[str, Any], header: str | None, models: Collection[str], registry: Registry, default: Policy | None
) -> Resolved:
    """Resolve a request. Raises PolicyError when what it asks for cannot be, or when two ways of asking disagree."""
    asked: dict[str, Policy] = {}
    if body.get("policy") is not None:
        asked["the body's `policy`"] = _from_body(body["policy"], registry)
    if header is not None:
        asked["the header X-Forkpoint-Policy"] = registry.get(header, "X-Forkpoint-Policy").policy
    model, alias = split_model(body.get("model"), models)
    if alias is not None:
        asked[f"the model {body['model']!r}"] = registry.get(alias, "model").policy
    if len(set(asked.values())) > 1:
        said = ", ".join(f"{place} says {policy.name!r}" for place, policy in asked.items())
        raise PolicyError("policy", f"{said}; ask for one policy, in one place")
    forks = body.get("forks", False)
    if forks is None:
        forks = False
    if not isinstance(forks, bool):
        raise PolicyError("forks", f"must be true or false, not {forks!r}")
    kept = {key: value for key, value in body.items() if key not in FIELDS}
    if alias is not None:
        kept["model"] = model
    changed = alias is not None or len(kept) != len(body)
    return Resolved(next(iter(asked.values()), default), forks, kept, changed)


def split_model(model: Any, models: Collection[str]) -> tuple[Any, str | None]:
    """`MODEL:NAME` of a served MODEL as (MODEL, NAME); anything else as it is, with None."""
    if isinstance(model, str) and model not in models and ":" in model:
        plain, _, name = model.rpartition(":")
        if plain in models:
            return plain, name
    return model, None


def _from_body(asked: Any, registry: Registry) -> Policy:
    if isinstance(asked, str):
        return registry.get(asked).policy
    if isinstance(asked, dict) and "use" in asked:
        return _from_use(asked, registry)
    if isinstance(asked, dict):
        return parse_policy(asked)
    raise PolicyError("policy", f"must be a policy's name or a policy object, not {type(asked).__name__}")


def _from_use(asked: dict[str, Any], registry: Registry) -> Policy:
    for key in asked:
        if key not in ("use", "with", "shadow"):
            raise PolicyError(f"policy.{key}", "is not a field beside `use`; here one can write use, with, shadow")
    name, parameters, shadow = asked["use"], asked.get("with") or {}, asked.get("shadow", False)
    if not isinstance(name, str):
        raise PolicyError("policy.use", f"must be a policy's name, not {type(name).__name__}")
    named = registry.get(name, "policy.use")
    if not isinstance(parameters, dict):
        raise PolicyError("policy.with", f"must be an object of parameters, not {type(parameters).__name__}")
    policy = named.use(parameters)
    if not isinstance(shadow, bool):
        raise PolicyError("policy.shadow", f"must be true or false, not {shadow!r}")
    return policy.in_shadow() if shadow else policy
