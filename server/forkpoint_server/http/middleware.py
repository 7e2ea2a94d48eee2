"""The ASGI middleware: resolves each request's policy before vLLM's handler runs, and completes the response after it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from forkpoint_policies.spec import InputError
from forkpoint_server import metrics
from forkpoint_server.errors import ApiError, refused, wrong
from forkpoint_server.policies.eligibility import GENERATING, alone, can_grow, check_choices, growing_of
from forkpoint_server.policies.resolve import HEADER, Asked, Resolved, resolve, split_model
from forkpoint_server.requests.context import RequestContext, current
from forkpoint_server.requests.summary import tell_spans
from forkpoint_server.service import Service

from .body import MAX_OWN_BYTES, Exchange, json_object, limited, read_body, replay, with_content_length
from .health import HEALTH, HealthMiddleware
from .model_list import ModelAliases
from .summary_injection import SummaryInjection

WITHOUT_POLICIES = ("/v1/chat/completions/batch", "/invocations", "/inference/v1/generate", "/generative_scoring")
"""Routes of vLLM's that evaluate the model in other ways; on these nothing that asks for a policy is passed over in silence."""
FORKS = "/v1/forks"
"""Measures a text without a policy, whatever the header says: our clients send their default one with every request."""
OWN = ("/v1/policies", "/v1/experiments", "/v1/calibration")
MODELS = "/v1/models"


class PolicyMiddleware:
    """The innermost middleware of vLLM's app: behind its authentication, in front of its handlers."""

    def __init__(self, app: ASGIApp, service: Service, most_bytes: int) -> None:
        self._app = app
        self._service = service
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", "")) if scope["type"] == "http" else ""
        if scope["type"] == "http":
            own = path.startswith((*OWN, FORKS))
            receive = limited(scope, receive, min(MAX_OWN_BYTES, self._most_bytes) if own else self._most_bytes)
        if path == MODELS and scope["method"] == "GET":
            await self._app(scope, receive, ModelAliases(send, self._service))
        elif path == HEALTH:
            await self._app(scope, receive, HealthMiddleware(send, scope, self._service.warnings()))
        elif scope["type"] != "http" or scope["method"] != "POST" or path.startswith(OWN):
            await self._app(scope, receive, send)
        else:
            await self._post(scope, receive, send, path)

    async def _post(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        began, exchange = time.monotonic(), Exchange(receive, send)
        send = exchange.send
        try:
            raw, receive = await read_body(exchange.receive)
        except ApiError as error:
            await refused(error)(scope, receive, send)
            return
        body = json_object(raw)
        if body is None:  # not ours to judge: vLLM says what is wrong with it
            await self._app(scope, replay(raw, receive), send)
            return
        models = self._service.models()
        if path not in GENERATING:
            await self._elsewhere(scope, receive, send, path, raw, body, models)
            return
        headers = Headers(scope=scope)
        try:
            asked = resolve(body, headers.get(HEADER), models, self._service.registry, self._service.default)
            policy = self._applicable(asked, path)
            enrolment = None if asked.by_request else self._service.experiments.enrol(path, asked.body, headers)
            intervention = await self._service.intervention(policy, asked.forks, asked.by_default, enrolment)
        except InputError as error:
            await wrong(error)(scope, receive, send)
            return
        if asked.changed:
            raw = json.dumps(asked.body).encode()
            scope = with_content_length(scope, len(raw))
        if intervention is None:
            await self._app(scope, replay(raw, receive), send)
        else:
            await self._intervene(scope, replay(raw, receive), exchange, intervention)
        if exchange.answered:
            label = "none" if intervention is None or intervention.silent else intervention.label
            metrics.REQUEST_SECONDS.labels(label).observe(time.monotonic() - began)

    def _applicable(self, asked: Resolved, path: str) -> Asked | None:
        """The policy that a request gets outside of experiments. Raises InputError where it cannot have what it asks for."""
        policy, option = asked.asked, alone(asked.body)
        if option is not None:
            if asked.forks or (policy is not None and not asked.by_default):
                raise InputError("policy", f"does not work with {option}; leave one of the two out")
            policy = None  # the server's default is for what can have one
        growing = growing_of(policy.policy if policy is not None else None)
        if growing is not None and not asked.by_default:
            check_choices(path, asked.body, growing, self._service.most_branches)
        elif growing is not None and not can_grow(path, asked.body, growing, self._service.most_branches):
            policy = None
        return policy

    async def _intervene(
        self, scope: Scope, receive: Receive, exchange: Exchange, intervention: RequestContext
    ) -> None:
        """Handle a request under an intervention, tell of it in the response, and record it if it is part of an experiment."""

        async def summary(response_id: str | None) -> dict[str, Any]:
            await intervention.settle()
            intervention.response_id = response_id
            return intervention.summary()

        def headers() -> dict[str, str] | None:
            return None if intervention.silent else intervention.headers

        summarised = SummaryInjection(exchange.send, headers, summary, intervention.generated)
        token = current.set(intervention)
        attendance = self._service.attend(intervention)
        failed = True
        try:
            with self._service.traces.entered(intervention):
                try:
                    await self._app(scope, receive, summarised)
                finally:
                    intervention.close()
            failed = False
        except asyncio.CancelledError:  # the client is gone
            exchange.cut()
            failed = False
            raise
        finally:
            current.reset(token)
            if intervention.spans is not None:
                tell_spans(intervention.spans, intervention)
            if attendance is not None:
                failed |= (summarised.status or 0) >= HTTPStatus.BAD_REQUEST and not exchange.left
                attendance.end(failed, exchange.left, summarised.streamed_id)

    async def _elsewhere(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        path: str,
        raw: bytes,
        body: dict[str, Any],
        models: Collection[str],
    ) -> None:
        """A route that takes no policy. Where nothing is generated, a model's alias means the model."""
        model, alias = split_model(body.get("model"), models)
        asked = {"policy": body.get("policy") is not None}
        if path in WITHOUT_POLICIES:
            asked |= {
                "forks": bool(body.get("forks")),
                "model": alias is not None,
                HEADER: HEADER in Headers(scope=scope),
            }
        if path == FORKS:
            asked["model"] = alias is not None
        for field, here in asked.items():
            if here:
                error = InputError(field, f"asks for what {path} does not do; policies work on {', '.join(GENERATING)}")
                await wrong(error)(scope, receive, send)
                return
        if alias is not None:
            raw = json.dumps({**body, "model": model}).encode()
            scope = with_content_length(scope, len(raw))
        await self._app(scope, replay(raw, receive), send)
