"""The ASGI middleware: resolves each request's policy before vLLM's handler runs, and completes the response after it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from forkpoint_policies.spec import Growing, PolicyError
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .branching.controllers import gives_several
from .errors import wrong
from .health import HEALTH, Healthy
from .intervention import current
from .resolution import HEADER, resolve, split_model
from .response import SummarisedSend
from .service import Service

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
WITH_CHOICES = ("/v1/chat/completions", "/v1/completions")
WITHOUT_POLICIES = ("/v1/chat/completions/batch", "/invocations", "/inference/v1/generate", "/generative_scoring")
"""Routes of vLLM's that evaluate the model in other ways; on these nothing that asks for a policy is passed over in silence."""
ALONE = ("use_beam_search", "background")
"""Beam search asks the engine anew for each token; a background response is told of before it is generated."""
FORKS = "/v1/forks"
"""Measures a text without a policy, whatever the header says: our clients send their default one with every request."""
OWN = ("/v1/policies",)
MODELS = "/v1/models"


class Interventions:
    """The innermost middleware of vLLM's app: behind its authentication, in front of its handlers."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if path == MODELS and scope["method"] == "GET":
            await self._app(scope, receive, _ListedAliases(send, self._service))
        elif path == HEALTH:
            await self._app(scope, receive, Healthy(send, scope, self._service.threshold.warnings()))
        elif scope["type"] != "http" or scope["method"] != "POST" or path.startswith(OWN):
            await self._app(scope, receive, send)
        else:
            await self._post(scope, receive, send, path)

    async def _post(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        raw, receive = await _read(receive)
        body = _object(raw)
        if body is None:  # not ours to judge: vLLM says what is wrong with it
            await self._app(scope, _replay(raw, receive), send)
            return
        models = self._service.models()
        if path not in GENERATING:
            await self._elsewhere(scope, receive, send, path, raw, body, models)
            return
        header = Headers(scope=scope).get(HEADER)
        try:
            asked = resolve(body, header, models, self._service.registry, self._service.default)
            policy = asked.asked
            for option in ALONE:
                if body.get(option) in (None, False):
                    continue
                if asked.forks or (policy is not None and not asked.by_default):
                    raise PolicyError("policy", f"does not work with {option}; leave one of the two out")
                policy = None  # the server's default is for what can have one
            rule = policy.policy.growing if policy is not None and not policy.policy.shadow else None
            if rule is not None and rule.growing is not None:
                try:
                    _check_choices(path, body, rule.growing, self._service.most_branches)
                except PolicyError:
                    if not asked.by_default:
                        raise
                    policy = None
            intervention = await self._service.intervention(policy, asked.forks, asked.by_default)
        except PolicyError as error:
            await wrong(error)(scope, receive, send)
            return
        if asked.changed:
            raw = json.dumps(asked.body).encode()
            scope = _with_length(scope, len(raw))
        if intervention is None:
            await self._app(scope, _replay(raw, receive), send)
            return

        async def summary(response_id: str | None) -> dict[str, Any]:
            await intervention.settle()
            intervention.response_id = response_id
            return intervention.summary()

        def headers() -> dict[str, str]:
            return {"X-Forkpoint-Policy": name} if (name := intervention.told_policy) is not None else {}

        token = current.set(intervention)
        try:
            await self._app(scope, _replay(raw, receive), SummarisedSend(send, headers, summary, intervention.generated))
        finally:
            current.reset(token)
            intervention.close()
            self._service.traces.keep(intervention)

    async def _elsewhere(
        self, scope: Scope, receive: Receive, send: Send, path: str, raw: bytes, body: dict[str, Any], models: Collection[str]
    ) -> None:
        """A route that takes no policy. Where nothing is generated, a model's alias means the model."""
        model, alias = split_model(body.get("model"), models)
        asked = {"policy": body.get("policy") is not None}
        if path in WITHOUT_POLICIES:
            asked |= {"forks": bool(body.get("forks")), "model": alias is not None, HEADER: HEADER in Headers(scope=scope)}
        if path == FORKS:
            asked["model"] = alias is not None
        for field, here in asked.items():
            if here:
                error = PolicyError(field, f"asks for what {path} does not do; policies work on {', '.join(GENERATING)}")
                await wrong(error)(scope, receive, send)
                return
        if alias is not None:
            raw = json.dumps({**body, "model": model}).encode()
            scope = _with_length(scope, len(raw))
        await self._app(scope, _replay(raw, receive), send)


class _ListedAliases:
    """An ASGI `send` that lists `MODEL:POLICY` beside each model of `GET /v1/models`."""

    def __init__(self, send: Send, service: Service) -> None:
        self._send = send
        self._service = service
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        listed = json.loads(self._body)
        aliases = [
            {**model, "id": f"{model['id']}:{named.policy.name}", "parent": model["id"], "permission": []}
            for model in listed["data"]
            for named in self._service.registry
        ]
        listed["data"] += aliases
        response = JSONResponse(listed)
        kept = [(name, value) for name, value in self._start["headers"] if name not in (b"content-length", b"content-type")]
        await self._send({**self._start, "headers": [*kept, *response.raw_headers]})
        await self._send({"type": "http.response.body", "body": response.body})


def _check_choices(path: str, body: dict[str, Any], growing: Growing, most: int) -> None:
    """A tree's answers are the request's choices, where it has such; or one of them is given."""
    choices = body.get("n")
    choices = choices if isinstance(choices, int) else 1
    if gives_several(growing):
        if path not in WITH_CHOICES:
            raise PolicyError("policy", f"gives several answers, and {path} gives one; let the policy's branch `select` one")
        if choices > most:
            raise PolicyError("n", f"is {choices}; a tree has at most {most} answers here (--max-branches)")
    elif choices > 1:
        raise PolicyError("n", f"is {choices}, but of the policy's answers one is given; leave n out")


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and the `receive` to listen on for what comes after it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client is gone; let the handler hear it

            async def again(message: Message = message) -> Message:
                return message

            return b"".join(parts), again
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts), receive


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and then what the client sends, its disconnection above all."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _with_length(scope: Scope, length: int) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}
