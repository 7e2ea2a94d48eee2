"""The policy of each request: resolved before vLLM's handler runs, summarised in the response after it."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from forkpoint_policies.spec import InputError
from forkpoint_server import metrics
from forkpoint_server.errors import ApiError, error_response
from forkpoint_server.headers import single_name
from forkpoint_server.policies.eligibility import GENERATING, eligible_policy
from forkpoint_server.policies.resolve import HEADER, NONE, ResolvedRequest, resolve, split_model
from forkpoint_server.requests.client_id import HEADER as HEADER_OF_ID
from forkpoint_server.requests.client_id import client_id
from forkpoint_server.requests.context import RequestContext, current
from forkpoint_server.requests.options import DEFAULTS, RequestOptions
from forkpoint_server.requests.prompt_start import prompt_start
from forkpoint_server.requests.recording import ExperimentRecording
from forkpoint_server.requests.serialize import summarise_request
from forkpoint_server.requests.summary import count_in_metrics, num_generated_tokens, release_spans
from forkpoint_server.service import Service

from .body import DisconnectTracker, ParsedBody, read_body
from .disclosure import headers_of, shows_silence, shows_summary
from .event_stream import KeepAlive
from .misspelt_fields import misspelt_fields, warning_of
from .model_echo import ModelEcho
from .paths import FORKS, OWN, may_generate, path_of
from .summary_injection import Additions, SummaryInjection
from .wrong_items import check_items


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
        warnings: list[str] = []
        tracker = DisconnectTracker(receive, warning_of(send, warnings))
        try:
            body = await read_body(tracker.receive)
        except InputError as error:
            await error_response(error, path)(scope, tracker.receive, tracker.send)
            return
        headers = Headers(scope=scope)
        if body.data is None and path in GENERATING:  # vLLM says what is wrong with it
            await self._app(scope, body.replay(), tracker.send)
            return
        try:
            check_items(scope, body)
            if path in GENERATING:
                assert body.data is not None
                warnings += misspelt_fields(body.data)
                resolved, context = await self._resolve(path, headers, body.data)
            else:
                resolved, context = _without_policy(path, scope, headers, body.data or {}, self._service), None
        except (InputError, ApiError) as error:
            await error_response(error, path)(scope, body.receive, tracker.send)
            return
        if resolved.changed:
            scope, body = body.replaced(scope, resolved.body)
        if path == FORKS:
            scope = body.with_data(scope)
        if context is not None and context.client_id is None:
            scope = _with_own_id(scope, self._service)
        if context is None:
            await self._app(scope, body.replay(), _echoing(tracker.send, resolved))
        else:
            await self._run(scope, body, tracker, resolved, context)
        if tracker.is_answered and path in GENERATING:
            label = "none" if context is None or context.inactive else context.compiled.label
            model_name = self._service.config.model_label(resolved.body.get("model"))
            trace_id = None if context is None else context.otel_trace_id
            exemplar = None if trace_id is None else {"trace_id": trace_id}  # Grafana's name for it
            metrics.REQUEST_SECONDS.labels(model_name, label).observe(time.monotonic() - received_at, exemplar)

    async def _resolve(
        self, path: str, headers: Headers, data: dict[str, Any]
    ) -> tuple[ResolvedRequest, RequestContext | None]:
        """What a generating request names, and its context if anything applies to it. Raises InputError."""
        service, config = self._service, self._service.config
        models = config.served_models()
        resolved = resolve(data, single_name(headers, HEADER), models, service.registry, config.default_policy)
        policy = eligible_policy(path, resolved, config.max_branches)
        model_name, chosen_id = config.model_label(resolved.body.get("model")), client_id(headers, data)
        enrolment = None
        if not resolved.by_request:
            enrolment = service.experiments.enrol(path, resolved.body, headers, model_name)
        context = await service.open_context(policy, resolved.options, resolved.by_default, enrolment, model_name)
        if context is not None:
            context.client_id, context.prompt_start = chosen_id, prompt_start(resolved.body)
        return resolved, context

    async def _run(
        self,
        scope: Scope,
        body: ParsedBody,
        tracker: DisconnectTracker,
        resolved: ResolvedRequest,
        context: RequestContext,
    ) -> None:
        """Handle a request under its context: add the summary to the response; record it if it is in an experiment."""
        show_arms = self._service.config.show_arms

        async def summarise(response_id: str | None) -> bytes | None:
            if context.inactive:
                return None
            await context.receiver.settle(context.traces)
            context.settled, context.response_id = True, response_id
            return await summarise_request(context) if shows_summary(context, show_arms) else None

        additions = Additions(
            headers=lambda streams: headers_of(context, show_arms, streams),
            summarise=summarise,
            num_generated=lambda: num_generated_tokens(context),
            own_chunk=context.options.forks,
        )
        keep_alive = KeepAlive(tracker.send, lambda: shows_silence(context, show_arms))
        injection = SummaryInjection(_echoing(keep_alive, resolved), additions)
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
                    keep_alive.stop()
                    try:
                        if not context.settled:
                            await context.receiver.settle_sums(context.traces)
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
                context.otel_trace_id = release_spans(context, context.spans)
            if recording is not None:
                failed |= (injection.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR and not tracker.disconnected
                refused = HTTPStatus.BAD_REQUEST <= (injection.status or 0) < HTTPStatus.INTERNAL_SERVER_ERROR
                recording.end(failed, refused, tracker.disconnected, injection.streamed_id)


def _with_own_id(scope: Scope, service: Service) -> Scope:
    """The request with an id that says which server has its trace, if there are others: vLLM names responses by it."""
    own_id = None if service.replicas is None else service.replicas.new_request_id()
    return (
        scope if own_id is None else {**scope, "headers": [*scope["headers"], (HEADER_OF_ID.encode(), own_id.encode())]}
    )


def _echoing(send: Send, resolved: ResolvedRequest) -> Send:
    """A `send` whose responses have the `model` that the request named."""
    return send if resolved.alias is None else ModelEcho(send, resolved.body["model"], resolved.alias)


def _without_policy(
    path: str, scope: Scope, headers: Headers, data: dict[str, Any], service: Service
) -> ResolvedRequest:
    """A request to a route that applies no policy; where nothing is generated, a model's alias means the model.

    Raises InputError for one that names a policy, and for an alias of a policy that does not exist.
    """
    model, alias = split_model(data.get("model"), service.config.served_models())
    if alias is not None and alias != NONE:
        service.registry.get(alias, "model")
    named = {
        "policy": data.get("policy") is not None,
        "model": alias is not None,
        HEADER: single_name(headers, HEADER) is not None,
        **{name: data.get(name) not in (None, default) for name, default in DEFAULTS.items()},
    }
    refused = [field for field, is_set in named.items() if is_set]
    if path == FORKS:  # our clients send the header of their default policy with every request
        refused = [field for field in refused if field in ("policy", "model")]
    elif refused and not may_generate(scope):
        refused = [field for field in refused if field == "policy"]
    if refused:
        raise InputError(refused[0], f"is not supported on {path[:100]}; policies work on {', '.join(GENERATING)}")
    body = data if alias is None else {**data, "model": model}
    return ResolvedRequest(
        None, RequestOptions(), body, changed=alias is not None, alias=None if alias is None else data["model"]
    )
