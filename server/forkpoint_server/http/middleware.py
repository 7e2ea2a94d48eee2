"""The policy of each request: resolved before vLLM's handler runs, summarised in the response after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from forkpoint_policies.spec import InputError
from forkpoint_server import metrics
from forkpoint_server.errors import ApiError, error_response
from forkpoint_server.policies.eligibility import GENERATING, eligible_policy
from forkpoint_server.policies.resolve import HEADER, ResolvedRequest, resolve, split_model
from forkpoint_server.requests.client_id import client_id
from forkpoint_server.requests.context import RequestContext, current
from forkpoint_server.requests.options import RequestOptions, read_options
from forkpoint_server.requests.recording import ExperimentRecording
from forkpoint_server.requests.serialize import summary_to_dict
from forkpoint_server.requests.summary import count_in_metrics, num_generated_tokens, release_spans
from forkpoint_server.service import Service

from .body import DisconnectTracker, ParsedBody, read_body
from .paths import FORKS, OWN, path_of
from .summary_injection import SummaryInjection

WITHOUT_POLICIES = ("/v1/chat/completions/batch", "/invocations", "/inference/v1/generate", "/generative_scoring")
"""vLLM's other routes that evaluate the model. On these, a request for a policy is refused rather than ignored.

On FORKS the header is ignored: our clients send their default policy's with every request.
"""


class PolicyMiddleware:
    """Applies a request's policy on the generating routes, and refuses one on the others.

    It is the innermost middleware: behind vLLM's authentication, in front of its handlers.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        if scope["type"] != "http" or scope["method"] != "POST" or path.startswith(OWN):
            await self._app(scope, receive, send)
            return
        received_at = time.monotonic()
        tracker = DisconnectTracker(receive, send)
        body = await read_body(tracker.receive)
        if body.data is None:  # vLLM says what is wrong with it
            await self._app(scope, body.replay(), tracker.send)
            return
        try:
            if path in GENERATING:
                resolved, context = await self._resolve(path, Headers(scope=scope), body.data)
            else:
                resolved, context = _without_policy(path, scope, body.data, self._service.config.served_models()), None
        except (InputError, ApiError) as error:
            await error_response(error)(scope, body.receive, tracker.send)
            return
        if resolved.changed:
            scope, body = body.replaced(scope, resolved.body)
        if context is None:
            await self._app(scope, body.replay(), tracker.send)
        else:
            await self._run(scope, body, tracker, context)
        if tracker.is_answered and path in GENERATING:
            label = "none" if context is None or context.inactive else context.compiled.label
            model_name = self._service.config.model_label(resolved.body.get("model"))
            metrics.REQUEST_SECONDS.labels(model_name, label).observe(time.monotonic() - received_at)

    async def _resolve(
        self, path: str, headers: Headers, data: dict[str, Any]
    ) -> tuple[ResolvedRequest, RequestContext | None]:
        """What a generating request names, and its context if anything applies to it. Raises InputError."""
        service, config = self._service, self._service.config
        models = config.served_models()
        resolved = resolve(data, headers.get(HEADER), models, service.registry, config.default_policy)
        policy = eligible_policy(path, resolved, config.max_branches)
        model_name, chosen_id = config.model_label(resolved.body.get("model")), client_id(headers, data)
        enrolment = None
        if not resolved.by_request:
            enrolment = service.experiments.enrol(path, resolved.body, headers, model_name)
        context = await service.open_context(policy, resolved.options, resolved.by_default, enrolment, model_name)
        if context is not None:
            context.client_id = chosen_id
        return resolved, context

    async def _run(self, scope: Scope, body: ParsedBody, tracker: DisconnectTracker, context: RequestContext) -> None:
        """Handle a request under its context: add the summary to the response; record it if it is in an experiment."""

        async def summarise(response_id: str | None) -> dict[str, Any]:
            await context.receiver.settle(context.traces)
            context.settled, context.response_id = True, response_id
            return summary_to_dict(context)

        injection = SummaryInjection(
            tracker.send, lambda: _headers(context), summarise, lambda: num_generated_tokens(context)
        )
        token = current.set(context)
        recording = None
        if context.enrolment is not None:
            recording = ExperimentRecording(context, self._service.experiments, self._service.recorder)
        failed = True
        try:
            with self._service.recent.track(context):
                try:
                    await self._app(scope, body.replay(), injection)
                finally:
                    count_in_metrics(context)
                    context.receiver.close(context.traces)
            failed = False
        except asyncio.CancelledError:  # the client is gone
            tracker.note_disconnect()
            failed = False
            raise
        finally:
            current.reset(token)
            if context.spans is not None:
                release_spans(context, context.spans)
            if recording is not None:
                failed |= (injection.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR and not tracker.disconnected
                refused = HTTPStatus.BAD_REQUEST <= (injection.status or 0) < HTTPStatus.INTERNAL_SERVER_ERROR
                recording.end(failed, refused, tracker.disconnected, injection.streamed_id)


def _headers(context: RequestContext) -> dict[str, str] | None:
    """The headers to add to the response; None to leave the response as it is."""
    if context.inactive:
        return None
    policy = {"X-Forkpoint-Policy": context.compiled.policy.name} if context.compiled.is_named else {}
    missing = context.missing_choices
    return {
        **policy,
        **({"X-Forkpoint-Arm": context.arm} if context.arm else {}),
        **({"X-Forkpoint-Choices": missing} if missing is not None else {}),
    }


def _without_policy(path: str, scope: Scope, data: dict[str, Any], models: Collection[str]) -> ResolvedRequest:
    """A request to a route that applies no policy; where nothing is generated, a model's alias means the model.

    Raises InputError for one that names a policy.
    """
    model, alias = split_model(data.get("model"), models)
    refused = {"policy": data.get("policy") is not None}
    if path in WITHOUT_POLICIES:
        refused |= {
            **dict.fromkeys(read_options(data).names_set, True),
            "model": alias is not None,
            HEADER: HEADER in Headers(scope=scope),
        }
    if path == FORKS:
        refused["model"] = alias is not None
    for field, is_set in refused.items():
        if is_set:
            raise InputError(field, f"is not supported on {path}; policies work on {', '.join(GENERATING)}")
    body = data if alias is None else {**data, "model": model}
    return ResolvedRequest(None, RequestOptions(), body, changed=alias is not None)
