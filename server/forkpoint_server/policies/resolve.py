"""The policy that a request names in its body, its header or its model; if it names none, the server's default."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.spec import InputError, Policy, parse_policy
from forkpoint_server.metrics import SHADOW
from forkpoint_server.requests.options import DEFAULTS, RequestOptions, read_options

from .compiled import LabeledPolicy
from .registry import Registry

HEADER = "x-forkpoint-policy"
FIELDS = ("policy", *DEFAULTS)
NONE = "none"
"""Names no policy, where the server has a default."""


@dataclass(frozen=True)
class ResolvedRequest:
    """What a request names. `body` is what vLLM reads: without our fields, and with the plain model name.

    `by_default`: the request named no policy and got the server's. `by_request`: it named one, or `none`.
    """

    policy: LabeledPolicy | None
    options: RequestOptions
    body: dict[str, Any]
    changed: bool  # the body
    alias: str | None = None  # MODEL:POLICY, if the request names its model so
    by_default: bool = False
    by_request: bool = False


def resolve(
    body: Mapping[str, Any], header: str | None, models: Collection[str], registry: Registry, default: str | None
) -> ResolvedRequest:
    """Resolve a request. Raises InputError for a policy that does not exist, or when a request names two."""
    # the policies that the request names, by where
    named: dict[str, LabeledPolicy | None] = {}
    if body.get("policy") is not None:
        named["the body's `policy`"] = read_policy_field(body["policy"], registry)
    if header is not None:
        named["the header X-Forkpoint-Policy"] = _by_name(header, registry, "X-Forkpoint-Policy")
    model, alias = split_model(body.get("model"), models)
    if alias is not None:
        named[f"the model {body['model']!r}"] = _by_name(alias, registry, "model")
    if len({one and one.policy for one in named.values()}) > 1:
        said = ", ".join(f"{source} says {one.policy.name if one else NONE!r}" for source, one in named.items())
        raise InputError("policy", f"{said}; name one policy, in one place")

    options = read_options(body)

    # the body for vLLM
    plain = {key: value for key, value in body.items() if key not in FIELDS}
    if alias is not None:
        plain["model"] = model
    return ResolvedRequest(
        policy=next(iter(named.values())) if named else _by_name(default or NONE, registry, "--policy"),
        options=options,
        body=plain,
        changed=alias is not None or len(plain) != len(body),
        alias=None if alias is None else body["model"],
        by_default=not named and default is not None,
        by_request=bool(named),
    )


def read_policy_field(value: Any, registry: Registry) -> LabeledPolicy | None:
    """Read a body's `policy`: a name, a policy, or a use of a named one. None for `none`. Raises InputError."""
    if isinstance(value, str):
        return _by_name(value, registry, "policy")
    if isinstance(value, dict) and "use" in value:
        return _from_use(value, registry)
    if isinstance(value, dict):
        return label_policy("inline", parse_policy(value))
    raise InputError("policy", f"must be a policy's name or a policy object, not {type(value).__name__}")


def label_policy(name: str, policy: Policy) -> LabeledPolicy:
    """Label a policy by its registered name; one in shadow does nothing, so it is counted apart."""
    return LabeledPolicy(policy, f"{name}{SHADOW}" if policy.shadow else name)


def split_model(model: Any, models: Collection[str]) -> tuple[Any, str | None]:
    """`MODEL:NAME` of a served MODEL as (MODEL, NAME); anything else as it is, with None."""
    if isinstance(model, str) and model not in models and ":" in model:
        plain, _, name = model.rpartition(":")
        if plain in models:
            return plain, name
    return model, None


def _by_name(name: str, registry: Registry, field: str) -> LabeledPolicy | None:
    return None if name == NONE else label_policy(name, registry.get(name, field).policy)


def _from_use(value: dict[str, Any], registry: Registry) -> LabeledPolicy:
    for key in value:
        if key not in ("use", "with", "shadow"):
            raise InputError(f"policy.{key}", "is not a field beside `use`; here one can write use, with, shadow")
    name, parameters, shadow = value["use"], value.get("with") or {}, value.get("shadow", False)
    if not isinstance(name, str):
        raise InputError("policy.use", f"must be a policy's name, not {type(name).__name__}")
    named = registry.get(name, "policy.use")
    if not isinstance(parameters, dict):
        raise InputError("policy.with", f"must be an object of parameters, not {type(parameters).__name__}")
    policy = named.use(parameters)
    if not isinstance(shadow, bool):
        raise InputError("policy.shadow", f"must be true or false, not {shadow!r}")
    return label_policy(name, policy.in_shadow() if shadow else policy)
