"""Refuses a body with many wrong items before vLLM reads it: pydantic makes hundreds of errors for each wrong item.

vLLM's request model is validated once more with lists that stop at their first wrong item. Small bodies are left to
vLLM, so that its own errors are what they are.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import SchemaValidator, ValidationError
from starlette.types import Scope

from forkpoint_policies.spec import InputError

from .body import ParsedBody
from .paths import post_route_of

FEW = 32
"""Items in all lists of a body that vLLM reads without a check: some 40 MB of errors at the most."""


def check_items(scope: Scope, body: ParsedBody) -> None:
    """Raise InputError where the request's route cannot read an item of a long list.

    Also for `structured_outputs` that are no object: vLLM's own check of them fails, with a 500.
    """
    if body.data is not None and not isinstance(body.data.get("structured_outputs"), dict | None):
        raise InputError("structured_outputs", 'must be an object, such as {"choice": ["yes", "no"]}')
    if body.data is None or not _has_more_items(body.data, FEW):
        return
    model = _request_model(scope, body.data)
    if model is None:
        return
    try:
        _fail_fast(model).validate_python(json.loads(body.raw))  # validators may change what they read
    except ValidationError as error:
        wrong = [_field(one["loc"]) for one in error.errors(include_url=False) if _is_item(one["loc"])]
        if wrong:
            raise InputError(wrong[0], "cannot be read on this route; others may be wrong too") from None
    except Exception:  # noqa: BLE001  # of the model's own validators: vLLM says what is wrong
        return


def _has_more_items(data: Any, limit: int) -> bool:
    """Whether all lists together have more items."""
    found, left = 0, [data]
    while left:
        part = left.pop()
        if isinstance(part, list):
            found += len(part)
            if found > limit:
                return True
        left += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return False


def _request_model(scope: Scope, data: dict[str, Any]) -> type[BaseModel] | None:
    """The model by which the route reads its body, None where it has none."""
    if scope["path"].endswith("/invocations") and "messages" in data:  # which reads it as a chat
        scope = {**scope, "path": scope["path"].removesuffix("/invocations") + "/v1/chat/completions"}
    dependant = getattr(post_route_of(scope), "dependant", None)
    models = [field.field_info.annotation for field in dependant.body_params] if dependant is not None else []
    return next((one for one in models if isinstance(one, type) and issubclass(one, BaseModel)), None)


@cache
def _fail_fast(model: type[BaseModel]) -> SchemaValidator:
    return SchemaValidator(_with_fail_fast(model.__pydantic_core_schema__))


def _with_fail_fast(schema: Any) -> Any:
    """A copy of a core schema in which every list stops at its first wrong item."""
    if isinstance(schema, dict):
        copied = {name: _with_fail_fast(part) for name, part in schema.items()}
        return copied | {"fail_fast": True} if schema.get("type") == "list" else copied
    if isinstance(schema, list | tuple):
        return type(schema)(map(_with_fail_fast, schema))
    return schema


def _is_item(location: tuple[int | str, ...]) -> bool:
    return len(location) > 1 and isinstance(location[0], str) and any(isinstance(part, int) for part in location)


def _field(location: tuple[int | str, ...]) -> str:
    """`input[3]`: the names of the unions' members in a location were written by nobody."""
    return f"{location[0]}[{next(part for part in location if isinstance(part, int))}]"
