"""Assembles the server: vLLM's engine under our decorator, vLLM's app with our middlewares and routes."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import Engine
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.hidden.artefact import Artefact
from forkpoint_policies.placebo import PLACEBO
from forkpoint_policies.spec import InputError
from forkpoint_server import __version__
from forkpoint_server.artefacts.folder import read_folder
from forkpoint_server.artefacts.served import NamedArtefact, ServedArtefacts
from forkpoint_server.calibration.profile import read_own_profile
from forkpoint_server.calibration.threshold import Threshold
from forkpoint_server.calibration.token_frequencies import read_token_frequencies
from forkpoint_server.demo import VECTORS, WEIGHTS
from forkpoint_server.engine.engine import BranchLimits, InterveningEngine
from forkpoint_server.engine.hidden_states import (
    artefact_model,
    hooked_layers,
    push_artefact,
    repeatable_layers,
    start_reading,
)
from forkpoint_server.engine.same_forkpoint import check_workers
from forkpoint_server.http.body import BodyLimit
from forkpoint_server.http.health import HealthWarnings
from forkpoint_server.http.middleware import PolicyMiddleware
from forkpoint_server.http.model_list import ModelAliases
from forkpoint_server.http.no_generation import WithoutGeneration
from forkpoint_server.http.openmetrics import OpenMetrics
from forkpoint_server.http.own_port import answering
from forkpoint_server.http.paths import FORKS, OWN, WITHOUT_TEXT
from forkpoint_server.http.stopping import RefuseWhenStopping
from forkpoint_server.http.uvicorn_options import own_http_options, vllm_http_options
from forkpoint_server.policies.eligibility import GENERATING
from forkpoint_server.policies.registry import Registry
from forkpoint_server.policies.served_model import read_served_model, stop_tokens
from forkpoint_server.policies.text_regions import ParserNames
from forkpoint_server.routes.calibration import calibration_router
from forkpoint_server.routes.experiments import experiments_router
from forkpoint_server.routes.forks import forks_router
from forkpoint_server.routes.models import models_router
from forkpoint_server.routes.policies import policies_router
from forkpoint_server.routes.replica import replica_router
from forkpoint_server.routes.request_fields import describe_request_fields
from forkpoint_server.routes.states import states_router
from forkpoint_server.routes.vectors import vectors_router
from forkpoint_server.routes.viewer import viewer_router
from forkpoint_server.store.recorder import SERVER
from forkpoint_server.store.servers import OwnServer
from forkpoint_server.store.tables import MAX_MODEL_LENGTH
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.vllm_seam import (
    VLLM_VERSION,
    EngineClient,
    SamplingParams,
    build_app,
    build_async_engine_client,
    init_app_state,
    random_uuid,
    serve_http,
    setup_server,
    tokens_input,
)

from . import metrics
from .api_servers import ApiServer
from .errors import ApiError, handle_error
from .service import ServerConfig, Service
from .shutdown import STOPPING, Drain, drain_first, drain_of_one
from .tracing import RequestSpans, export_spans

logger = logging.getLogger(__name__)

GENERATE = "generate"
"""The task, of those that vLLM reports for a model, to which policies apply."""

LISTENING_POLL_SECONDS = 0.05
"""How often the start looks whether the socket accepts connections."""

EXPOSED_HEADERS = (
    "X-Forkpoint-Policy",
    "X-Forkpoint-Arm",
    "X-Forkpoint-Choices",
    "X-Forkpoint-Warning",
    "X-Request-Id",
)
"""Response headers that a web page of another site can read."""


@dataclass(frozen=True)
class PolicyOptions:
    """What the policies of a generating model are started with."""

    registry: Registry
    default_policy: str | None
    database: Engine
    vectors: Mapping[str, Artefact]
    replica_address: str | None = None  # where the other servers of the database reach this one


@dataclass(frozen=True)
class _Started:
    """What runs before the app is assembled: the socket, and what records and exports."""

    args: Namespace
    options: PolicyOptions
    receiver: Receiver
    spans: RequestSpans | None
    address: str
    sock: Any
    one: ApiServer | None


async def serve(args: Namespace, options: PolicyOptions, one: ApiServer | None = None) -> None:
    """Serve until interrupted. `args` are vLLM's parsed arguments, with our logits processor among them.

    `one`: this process is one of several API servers.
    """
    address, sock = (one.address, one.sock) if one is not None else setup_server(args, reuse_port=False)
    receiver = Receiver(args.telemetry_host, *((0, 1) if one is None else (one.number, one.count)))
    spans = export_spans(args.otlp_traces_endpoint)
    started = _Started(args, options, receiver, spans, address, sock, one)
    try:
        async with AsyncExitStack() as after_requests:
            async with build_async_engine_client(args, client_config=_engine_config(one)) as engine:
                if GENERATE in await engine.get_supported_tasks():
                    await check_workers(engine)
                    await receiver.start()
                    await _warm_up(engine)
                    shutdown = await _serve(engine, started, after_requests)
                else:
                    shutdown = await _serve_without_policies(engine, args, address, sock, one)
            await shutdown  # responses may still have to end, and to be recorded
    finally:
        await receiver.stop()
        options.database.dispose()
        sock.close()


async def serve_without_policies(args: Namespace, one: ApiServer | None = None) -> None:
    """Serve a model that generates nothing, until interrupted: as vLLM does, without a database or records."""
    address, sock = (one.address, one.sock) if one is not None else setup_server(args, reuse_port=False)
    try:
        async with build_async_engine_client(args, client_config=_engine_config(one)) as engine:
            shutdown = await _serve_without_policies(engine, args, address, sock, one)
        await shutdown
    finally:
        sock.close()


def _engine_config(one: ApiServer | None) -> dict[str, Any] | None:
    return None if one is None else one.engine_config


async def _serve_without_policies(
    engine: EngineClient, args: Namespace, address: str, sock: Any, one: ApiServer | None
) -> Any:
    """vLLM's app, behind a middleware that refuses policies; the result waits for the shutdown."""
    metrics.use_model(cast(str, engine.model_config.served_model_name))
    tasks = await engine.get_supported_tasks()
    app = build_app(args, tasks, engine.model_config)
    drain = _drain(one, engine)
    app.user_middleware += [
        Middleware(RefuseWhenStopping, drain=drain),
        Middleware(BodyLimit, max_bytes=args.max_body_mib << 20),
        Middleware(HealthWarnings, warnings=list, failure=lambda: STOPPING if drain.is_stopping() else None),
        Middleware(WithoutGeneration, served_models=lambda: _base_models(app)),
    ]
    app.middleware_stack = app.build_middleware_stack()
    await init_app_state(engine, app.state, args, tasks)
    metrics.BUILD.labels(__version__, VLLM_VERSION, metrics.served_model()).set(1)
    logger.info("serving on %s without policies: the model's tasks are %s", address, ", ".join(tasks))
    return await serve_http(app, sock=sock, **vllm_http_options(args), **own_http_options(app.routes), **_shared(one))


def _drain(one: ApiServer | None, engine: EngineClient) -> Drain:
    """The running requests: of this server, or its part of those of several, for which their parent waits."""
    if one is not None:
        return one.drain
    drain = drain_of_one()
    drain_first(drain, engine)
    return drain


def _shared(one: ApiServer | None) -> dict[str, Any]:
    """How a process takes connections from the socket that it shares with others."""
    return {} if one is None or one.peer_loads is None else {"peer_loads": one.peer_loads}


async def _serve(engine: EngineClient, started: _Started, after_requests: AsyncExitStack) -> Any:
    """Assemble the app and serve it; the result waits for the shutdown."""
    args = started.args
    metrics.use_model(cast(str, engine.model_config.served_model_name))  # vLLM has taken the first of several
    for histogram, bounds in ((metrics.REASONING, args.token_buckets), (metrics.REQUEST_SECONDS, args.seconds_buckets)):
        if bounds is not None:
            metrics.use_buckets(histogram, bounds)

    # vLLM's app, with our state, middlewares and routes
    tasks = await engine.get_supported_tasks()
    app = build_app(args, tasks, engine.model_config)
    app.title, app.version = "Forkpoint", __version__
    service = await _make_service(app, engine, started)
    app.add_exception_handler(ApiError, handle_error)
    app.add_exception_handler(InputError, handle_error)
    num_servers = 1 if started.one is None else started.one.count
    limits = BranchLimits(args.max_branches, args.max_live_branches, num_servers)
    drain = _drain(started.one, engine)
    intervening = InterveningEngine(engine, limits, drain.is_stopping, service.model.vocabulary.silent)
    _add_middlewares(app, service, intervening, drain, args)
    _add_routes(app, service, args.admin_api_key)
    describe_request_fields(app)

    # the engine, decorated, for vLLM's handlers
    await init_app_state(cast(EngineClient, intervening), app.state, args, tasks)

    # start
    metrics.BUILD.labels(__version__, VLLM_VERSION, metrics.served_model()).set(1)
    for warning in service.threshold.warnings():
        logger.warning(warning)
    if started.options.default_policy is not None:
        logger.warning("the default policy does not apply on %s", ", ".join(routes_without_policies(app.routes)))
    if started.one is not None and started.one.own_port is not None and service.replicas is not None:
        router = replica_router(service, service.replicas)
        tls = {name: value for name, value in vllm_http_options(args).items() if name.startswith("ssl_")}
        options = {**tls, **own_http_options(router.routes)}
        await after_requests.enter_async_context(answering(router, started.one.own_port.sock, options))
    await service.start()
    after_requests.push_async_callback(service.stop)
    if started.one is None or started.one.number == 0:
        announcement = asyncio.create_task(
            _announce(started, service, cast(str, engine.model_config.served_model_name))
        )
        after_requests.callback(announcement.cancel)
    return await serve_http(
        app, sock=started.sock, **vllm_http_options(args), **own_http_options(app.routes), **_shared(started.one)
    )


async def _make_service(app: FastAPI, engine: EngineClient, started: _Started) -> Service:
    """The server's state. Raises InputError where the model cannot express one of the operator's policies."""
    args = started.args
    folder = Path(args.model)
    threshold = Threshold(
        started.options.database, engine.model_config.model, lambda: _base_models(app), read_own_profile(folder)
    )
    await asyncio.to_thread(threshold.read)
    parsers = ParserNames(args.structured_outputs_config.reasoning_parser or None, args.tool_call_parser or None)
    frequencies, mean = read_token_frequencies(folder), threshold.mean_reasoning_tokens
    model = await asyncio.to_thread(read_served_model, engine, parsers, frequencies, threshold.nats, mean)
    unreadable = await start_reading(engine)
    artefacts = await _start_artefacts(engine, started, unreadable)
    model = replace(
        model,
        states_unreadable=unreadable,
        artefacts=artefacts.usable,
        hidden_layers=hooked_layers(engine.vllm_config),
        recycle_layers=repeatable_layers(engine.vllm_config),
        speculates=engine.vllm_config.speculative_config is not None,
    )
    config = ServerConfig(
        registry=started.options.registry,
        default_policy=started.options.default_policy,
        database=started.options.database,
        threshold=threshold,
        receiver=started.receiver,
        spans=started.spans,
        served_models=lambda: [*_base_models(app), *app.state.openai_serving_models.lora_requests],
        model_label=lambda model: model if _is_adapter(app, model) else metrics.served_model(),
        stop_tokens=stop_tokens(engine, model),
        max_branches=args.max_branches,
        max_trace_tokens=args.trace_tokens,
        retention_days=args.retention_days,
        show_arms=args.show_arms,
        own_server=_own_server(started, cast(str, engine.model_config.served_model_name)),
        sibling_keys=frozenset() if started.one is None else started.one.sibling_keys,
    )
    for named in started.options.registry:
        if not named.builtin or named.policy.name == started.options.default_policy:
            compile_policy(named.policy, model)  # one that the model cannot express fails now, not at its first request
    return Service(config, model, artefacts)


async def _start_artefacts(engine: EngineClient, started: _Started, unreadable: str) -> ServedArtefacts:
    """Send the operator's vectors and readouts to the workers. Raises InputError for one that cannot be used."""
    if unreadable and started.options.vectors:
        raise InputError("--vectors", f"cannot be used: {unreadable}")

    async def push(artefact: Artefact) -> str:
        return unreadable or await push_artefact(engine, artefact)

    own = read_folder(VECTORS) if Path(started.args.model) == WEIGHTS and not unreadable else {}
    named = [
        *(NamedArtefact(name, artefact, "built in") for name, artefact in own.items()),
        *(NamedArtefact(name, artefact, "folder") for name, artefact in started.options.vectors.items()),
    ]
    artefacts = ServedArtefacts(started.options.database, artefact_model(engine), push, named)
    await artefacts.start()
    return artefacts


def _own_server(started: _Started, model: str) -> OwnServer | None:
    """What this server tells the others; its key is new at each start."""
    address = started.options.replica_address
    if address is None:
        return None
    port = None if started.one is None else started.one.own_port
    key = secrets.token_hex(32) if port is None else port.key
    return OwnServer(SERVER, address, key, model[:MAX_MODEL_LENGTH], __version__)


def _add_middlewares(app: FastAPI, service: Service, engine: InterveningEngine, drain: Drain, args: Namespace) -> None:
    """Add our middlewares as the innermost: behind vLLM's authentication."""
    app.user_middleware += [
        Middleware(RefuseWhenStopping, drain=drain),
        Middleware(BodyLimit, max_bytes=args.max_body_mib << 20),
        Middleware(HealthWarnings, warnings=service.warnings, failure=engine.failure),
        Middleware(ModelAliases, registry=service.registry, listed=args.model_aliases),
        Middleware(PolicyMiddleware, service=service),
    ]
    if service.config.spans is not None and metrics.MULTIPROCESS not in os.environ:
        app.user_middleware.append(Middleware(OpenMetrics))  # for exemplars; of several processes there are none
    for middleware in app.user_middleware:
        if (
            cast(Any, middleware.cls) is CORSMiddleware
        ):  # vLLM's: a page of another site sees no header that it does not name
            middleware.kwargs["expose_headers"] = EXPOSED_HEADERS
    app.middleware_stack = app.build_middleware_stack()  # build_app has built it already, without ours


def _add_routes(app: FastAPI, service: Service, admin_key: str | None) -> None:
    app.include_router(policies_router(service, admin_key))
    app.include_router(experiments_router(service, admin_key))
    app.include_router(forks_router(service))
    if service.replicas is not None:
        app.include_router(replica_router(service, service.replicas))
    app.include_router(calibration_router(service, admin_key))
    app.include_router(models_router(service))
    app.include_router(vectors_router(service, admin_key))
    app.include_router(states_router(service, admin_key))
    app.include_router(viewer_router())


async def _announce(started: _Started, service: Service, model: str) -> None:
    """Log what is served and where, once the socket accepts connections: the last lines of the start."""
    while not started.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):  # noqa: ASYNC110  # nothing signals it
        await asyncio.sleep(LISTENING_POLL_SECONDS)
    await asyncio.sleep(LISTENING_POLL_SECONDS)  # uvicorn's own lines come first
    policies = sum(not named.policy.name.endswith(PLACEBO) for named in started.options.registry)
    logger.info(
        "Forkpoint %s on vLLM %s serves %s: %d policies (default: %s), fork threshold %.3f nats, database %s",
        __version__, VLLM_VERSION, model, policies, started.options.default_policy or "none", service.threshold.nats,
        started.options.database.url.render_as_string(hide_password=True),
    )  # fmt: skip
    logger.info("Console: %s/forkpoint", browsable(started.address))


def browsable(address: str) -> str:
    """A server's address as a browser on its machine can open it."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:").replace("//:", "//127.0.0.1:")


def routes_without_policies(routes: Iterable[BaseRoute]) -> list[str]:
    """vLLM's POST routes that may generate text, and on which policies do not work."""
    posts = {route.path for route in routes if isinstance(route, APIRoute) and "POST" in route.methods}
    return sorted(path for path in posts - WITHOUT_TEXT - {*GENERATING} if not path.startswith((*OWN, FORKS)))


def _base_models(app: FastAPI) -> list[str]:
    """The names under which the model is served, without its adapters."""
    return [model.name for model in app.state.openai_serving_models.base_model_paths]


def _is_adapter(app: FastAPI, model: Any) -> bool:
    """Whether a request's `model` is a LoRA adapter. Adapters can come and go while the server runs."""
    return isinstance(model, str) and model in app.state.openai_serving_models.lora_requests


async def _warm_up(engine: EngineClient) -> None:
    """Generate one token with logprobs: on a CPU vLLM then compiles for many seconds, which would delay a user."""
    params = SamplingParams(max_tokens=1, logprobs=1 if engine.model_config.max_logprobs else None, temperature=1.0)
    async for _ in engine.generate(tokens_input([0]), params, f"forkpoint-warm-up-{random_uuid()}"):
        pass
