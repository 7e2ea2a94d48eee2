"""The fields that Forkpoint adds to vLLM's requests, in the app's OpenAPI document."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import FastAPI

from forkpoint_server.policies.eligibility import GENERATING
from forkpoint_server.requests.options import RequestOptions

SCHEMA = "ForkpointFields"

DESCRIPTIONS = {
    "forks": "true: the response lists the fork points, and its trace is kept",
    "policy_logprobs": "true: log probabilities are those of the distribution that the tokens were sampled from",
    "stop_in": "where the strings of `stop` end an answer: anywhere, or only after the reasoning",
}
"""What each of the request's options does, by its name."""

POLICY = {
    "description": 'the policy of this request: a name of `GET /v1/policies`, `none`, `{"use": NAME}` with its '
    "parameters, or an object as `GET /v1/policies/schema` describes it",
    "anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}],
}


def describe_request_fields(app: FastAPI) -> None:
    """Add our fields to the request of each generating route in the document of `GET /openapi.json`.

    vLLM's own schemas stay as they are, because routes that refuse our fields refer to them, too.
    """
    vllm_document = app.openapi

    def openapi() -> dict[str, Any]:
        is_new = app.openapi_schema is None  # FastAPI keeps the document
        document = vllm_document()
        if is_new:
            document.setdefault("components", {}).setdefault("schemas", {})[SCHEMA] = _fields()
            for path in GENERATING:
                _extend(document["paths"].get(path, {}).get("post", {}))
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _extend(operation: dict[str, Any]) -> None:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is not None:
        content["schema"] = {"allOf": [content["schema"], {"$ref": f"#/components/schemas/{SCHEMA}"}]}


def _fields() -> dict[str, Any]:
    options = {
        option.name: {
            "description": DESCRIPTIONS[option.name],
            "enum": [*option.metadata["values"], None],
            "default": option.default,
        }
        for option in dataclasses.fields(RequestOptions)
    }
    return {"title": SCHEMA, "type": "object", "properties": {"policy": POLICY, **options}}
