"""For a model that generates no text (embeddings, scores, transcripts): policies are refused, and routes say why."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError, error_response
from forkpoint_server.policies.resolve import HEADER, NONE, split_model
from forkpoint_server.requests.options import RequestOptions, read_options

from .body import read_body
from .paths import FORKS, OWN, PAGE, path_of


class WithoutGeneration:
    """Serves vLLM's routes unchanged, answers 404 on Forkpoint's own, and 400 to a request that names a policy."""

    def __init__(self, app: ASGIApp, served_models: Callable[[], Collection[str]]) -> None:
        self._app = app
        self._served_models = served_models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        if path.startswith((*OWN, FORKS, PAGE)):
            await error_response(self._not_found())(scope, receive, send)
            return
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            body = await read_body(receive)
            self._check(Headers(scope=scope), body.data or {})
        except InputError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, body.replay(), send)

    def _check(self, headers: Headers, data: dict[str, Any]) -> None:
        """Raise InputError where the request names a policy, or an option that comes with policies."""
        _, alias = split_model(data.get("model"), self._served_models())
        named = {"policy": data.get("policy"), HEADER: headers.get(HEADER) or None, "model": alias}
        fields = [name for name, value in named.items() if value not in (None, NONE)]
        defaults = dataclasses.asdict(RequestOptions())
        fields += [name for name, value in dataclasses.asdict(read_options(data)).items() if value != defaults[name]]
        if fields:
            raise InputError(fields[0], f"{self._reason()}; leave this out")

    def _reason(self) -> str:
        model = next(iter(self._served_models()), "the model")
        return f"{model} generates no text here, so it has no policies"

    def _not_found(self) -> ApiError:
        return ApiError(HTTPStatus.NOT_FOUND, f"{self._reason()}, experiments or forks")
