"""`/v1/policies`: which policies there are, what connectors mean for the served model, and what a policy would do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, JSONResponse

from forkpoint_policies.catalog import Named
from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.compile.program import Action, CompiledRule, ControlKind, Curve, Shape
from forkpoint_policies.spec import SCHEMA, InputError, Policy, Rule, is_name, parse_policy
from forkpoint_server.errors import ApiError, not_found
from forkpoint_server.experiments.live import named_policies
from forkpoint_server.metrics import count_change
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.policies.eligibility import limit_warnings
from forkpoint_server.policies.registry import check_name
from forkpoint_server.policies.resolve import label_policy, read_policy_field
from forkpoint_server.service import Service
from forkpoint_server.store.executor import in_thread
from forkpoint_server.store.experiments import StoredExperiment, remove_policy
from forkpoint_server.store.experiments import put_policy as put

from .admin import admin_only
from .bodies import describe_body, json_body

MAX_TOKENS_SHOWN = 200


def policies_router(service: Service, admin_key: str | None) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])
    guarded = [Depends(admin_only(admin_key))]

    @router.get("/v1/policies")
    async def list_policies() -> dict[str, Any]:
        """The policies that a request can name."""
        return {"object": "list", "data": [await _shown(service, named) for named in service.registry]}

    @router.get("/v1/policies/connectors")
    async def list_connectors() -> dict[str, Any]:
        """Connector families, with the words of each and the token ids that they mean for the served model."""
        found = service.connectors
        return {
            "object": "list",
            "data": [
                {
                    "name": family,
                    "words": list(found.words[family]),
                    "token_ids": list(found.tokens[family]),
                    "tokens": [_text(service, token) for token in found.tokens[family]],
                }
                for family in found.words
            ],
        }

    @router.get("/v1/policies/schema")
    async def show_schema() -> FileResponse:
        """The policy language as a JSON Schema."""
        return FileResponse(SCHEMA, media_type="application/schema+json")

    @router.get("/v1/policies/{name:path}")
    async def show_policy(name: str) -> Any:
        """One policy, with its digest."""
        if name not in service.registry:
            raise not_found(f"there is no policy {name!r}", "name")
        return await _shown(service, service.registry.get(name))

    @router.post("/v1/policies/validate", openapi_extra=describe_body("post /v1/policies/validate", Policy))
    async def validate_policy(body: Annotated[Any, Depends(json_body)]) -> Any:
        """What a policy would do for the served model: rules in the order of application, token ids, warnings.

        The body is a request's `policy` field: an object with `rules`, or `{"policy": …}` around a name or object.
        """
        labeled = await asyncio.to_thread(_policy_to_validate, service, body)  # many words take a while
        compiled = await service.compile(labeled)
        return await asyncio.to_thread(_validation, service, compiled)

    @router.put(
        "/v1/policies/{name:path}",
        dependencies=guarded,
        openapi_extra=describe_body("put /v1/policies/{name}", Policy),
    )
    async def put_policy(name: str, body: Annotated[Any, Depends(json_body)]) -> JSONResponse:
        """Store a policy, for all servers that share the database. The body is a policy, or a use of a named one."""
        policy = _named(service, name, body)
        await service.compiled_policies.get(label_policy(name, policy))
        new = await in_thread(put, service.database, name, policy.model_dump(mode="json", exclude_unset=True))
        count_change("policy", "created" if new else "changed")
        await service.experiments.follow()
        shown = await _shown(service, service.registry.get(name))
        return JSONResponse(shown, HTTPStatus.CREATED if new else HTTPStatus.OK)

    @router.delete("/v1/policies/{name:path}", dependencies=guarded)
    async def delete_policy(name: str) -> Any:
        """Delete a stored policy."""
        _check_changeable(service, name)
        if not is_name(name):  # a database cannot be queried for every text
            raise not_found(f"there is no policy {name!r}", "name")

        def check(experiments: tuple[StoredExperiment, ...]) -> None:
            running = [one.name for one in experiments if one.status == "running" and name in named_policies(one)]
            if running:
                raise ApiError(
                    HTTPStatus.CONFLICT,
                    f"{name!r} is in a running experiment: {', '.join(running)}; stop it first",
                    "name",
                )

        try:
            await in_thread(remove_policy, service.database, name, check)
        except KeyError:
            raise not_found(f"there is no policy {name!r}", "name") from None
        count_change("policy", "deleted")
        await service.experiments.follow()
        return {"object": "policy.deleted", "name": name, "deleted": True}

    return router


async def _shown(service: Service, named: Named) -> dict[str, Any]:
    """A policy as the API shows it, with the digest of responses: it changes with the vectors and readouts that the
    policy names. Where one of them is missing, the digest is of the policy alone."""
    shown = named.to_dict()
    if named.policy.artefacts:
        with suppress(InputError, ApiError):
            shown["digest"] = (await service.compile(label_policy(named.policy.name, named.policy))).digest
    return shown


def _named(service: Service, name: str, body: Any) -> Policy:
    """The policy of a body under this name. Raises InputError or ApiError."""
    _check_changeable(service, name)
    check_name(name, "name")
    if not isinstance(body, dict):
        raise InputError("body", f"must be a policy object, not {type(body).__name__}")
    if "use" in body:
        labeled = read_policy_field(body, service.registry)
        assert labeled is not None
        return parse_policy({**labeled.policy.model_dump(mode="json", exclude_unset=True), "name": name})
    if body.get("name", name) != name:
        raise InputError("policy.name", f"is {body['name']!r}, but this route is that of {name!r}")
    return parse_policy({**body, "name": name})


def _check_changeable(service: Service, name: str) -> None:
    if service.registry.is_fixed(name):
        kind = "built in" if service.registry.get(name).builtin else "loaded by --policies"
        raise ApiError(HTTPStatus.CONFLICT, f"{name!r} is {kind} and cannot be changed; choose another name", "name")


def _policy_to_validate(service: Service, body: Any) -> LabeledPolicy:
    field = body["policy"] if isinstance(body, dict) and "policy" in body else body
    if field is None:
        raise InputError("policy", "is missing; give a name or an object with `rules`")
    resolved = read_policy_field(field, service.registry)
    if resolved is None:
        raise InputError("policy", "is `none`: there is nothing to validate")
    return resolved


def _validation(service: Service, compiled: CompiledPolicy) -> dict[str, Any]:
    policy = compiled.policy
    return {
        "object": "policy.validation",
        "valid": True,
        "name": policy.name,
        "digest": compiled.digest,
        "shadow": policy.shadow,
        "rules": [_rule(service, rule, policy.rules[rule.number], compiled.written) for rule in compiled.program.rules],
        "warnings": [*compiled.warnings, *limit_warnings(policy, service.config.max_branches)],
    }


def _rule(service: Service, rule: CompiledRule, source: Rule, written: tuple[int, ...]) -> dict[str, Any]:
    branches = source.tree_action is not None
    pairs = list(zip(rule.target.tokens, rule.target.states, strict=True))
    return {
        "rule": rule.number,
        "action": source.original.do.action if branches else rule.declared or Action(rule.action).name.lower(),
        "strength": _number(rule.strength) if rule.control != ControlKind.DOSE else rule.spread,
        "control": source.do.control.match if source.do.control is not None else None,
        "text": [_text(service, token) for token in (written if branches else rule.text)],
        "token_ids": sorted({token for token, _ in pairs}),
        "tokens": [
            {"id": token, "token": _text(service, token), "in_every_context": state < 0}
            for token, state in pairs[:MAX_TOKENS_SHOWN]
        ],
    }


def _number(curve: Curve) -> float | dict[str, float | str]:
    """A number that does not change, or the curve that it follows."""
    if curve.shape == Shape.CONSTANT:
        return curve.a
    return {"shape": Shape(curve.shape).name.lower(), "a": curve.a, "b": curve.b, "c": curve.c}


def _text(service: Service, token: int) -> str:
    return service.model.vocabulary.tokens[token].decode(errors="replace")
