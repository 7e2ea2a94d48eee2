"""`GET /v1/models` also lists the aliases MODEL:POLICY that the operator wants to be listed."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forkpoint_policies.placebo import PLACEBO
from forkpoint_server.policies.registry import Registry

from .paths import MODELS, path_of

ALL = "all"
POLICIES = "policies"
"""All policies without their placebos."""


class ModelAliases:
    """Lists `MODEL:POLICY` beside each model for the policies `listed`, or for POLICIES or ALL.

    Others can be requested as well.
    """

    def __init__(self, app: ASGIApp, registry: Registry, listed: Collection[str]) -> None:
        self._app = app
        self._registry = registry
        self._listed = listed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._listed or path_of(scope) != MODELS or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # held back: the length of the body will change
        body = b""

        async def send_with_aliases(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and message["status"] == 200:
                start = message
                return
            if message["type"] != "http.response.body" or start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            response = JSONResponse(self._with_aliases(json.loads(body)))
            replaced = (b"content-length", b"content-type")
            headers = [(name, value) for name, value in start["headers"] if name not in replaced]
            await send({**start, "headers": [*headers, *response.raw_headers]})
            await send({"type": "http.response.body", "body": response.body})

        await self._app(scope, receive, send_with_aliases)

    def _with_aliases(self, models: dict[str, Any]) -> dict[str, Any]:
        names = [named.policy.name for named in self._registry]
        shown = [name for name in names if self._is_listed(name)]
        aliases = [alias_card(model, name) for model in models["data"] for name in shown]
        return {**models, "data": [*models["data"], *aliases]}

    def _is_listed(self, name: str) -> bool:
        is_placebo = name.endswith(PLACEBO)
        return name in self._listed or ALL in self._listed or (POLICIES in self._listed and not is_placebo)


def alias_card(model: dict[str, Any], policy: str) -> dict[str, Any]:
    """What the list of models says of MODEL:POLICY."""
    return {**model, "id": f"{model['id']}:{policy}", "parent": model["id"], "permission": []}
