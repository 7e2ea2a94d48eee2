"""Assembles the server: vLLM's engine under our decorator, vLLM's app with our middleware and routes."""

from __future__ import annotations

import asyncio
import logging
from argparse import Namespace
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import vllm
from sqlalchemy import Engine
from starlette.middleware import Middleware
from vllm import envs
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.launcher import serve_http, setup_server
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.inputs import TokensPrompt
from vllm.sampling_params import SamplingParams

from forkpoint_policies.spec import InputError
from forkpoint_server import __version__
from forkpoint_server.calibration.threshold import Threshold
from forkpoint_server.calibration.token_frequencies import read_calibration
from forkpoint_server.engine.engine import BranchLimits, InterveningEngine
from forkpoint_server.http.middleware import PolicyMiddleware
from forkpoint_server.policies.registry import Registry
from forkpoint_server.policies.served_model import served_target, stop_tokens
from forkpoint_server.routes.calibration import calibration_router
from forkpoint_server.routes.experiments import experiments_router
from forkpoint_server.routes.forks import forks_router
from forkpoint_server.routes.openapi import describe_bodies
from forkpoint_server.routes.policies import policies_router
from forkpoint_server.routes.viewer import viewer_router
from forkpoint_server.traces.receiver import Receiver

from . import metrics
from .errors import ApiError, refusal, wrong_policy
from .service import Service
from .tracing import RequestSpans, export_spans

logger = logging.getLogger(__name__)


async def serve(args: Namespace, registry: Registry, default: str | None, database: Engine) -> None:
    """Serve until told to stop. `args` are vLLM's parsed arguments, with our logits processor among them."""
    address, sock = setup_server(args, reuse_port=False)
    receiver = Receiver()
    spans = export_spans(args.otlp_traces_endpoint)
    try:
        async with AsyncExitStack() as after_requests:
            async with build_async_engine_client(args) as engine:
                await receiver.start()
                await _warm_up(engine)
                shutdown = await _serve(
                    engine, address, sock, args, registry, default, receiver, database, spans, after_requests
                )
            await shutdown  # answers may still be ended, and recorded
    finally:
        await receiver.stop()
        database.dispose()
        sock.close()


async def _serve(
    engine: EngineClient,
    address: str,
    sock: Any,
    args: Namespace,
    registry: Registry,
    default: str | None,
    receiver: Receiver,
    database: Engine,
    spans: RequestSpans | None,
    after_requests: AsyncExitStack,
) -> Any:
    tasks = await engine.get_supported_tasks()
    app = build_app(args, tasks, engine.model_config)

    def models() -> Collection[str]:
        serving = app.state.openai_serving_models
        return {model.name for model in serving.base_model_paths} | set(serving.lora_requests)

    def names() -> list[str]:
        return [model.name for model in app.state.openai_serving_models.base_model_paths]

    threshold = Threshold(database, engine.model_config.model, names)
    await asyncio.to_thread(threshold.read)
    parser, calibration = args.structured_outputs_config.reasoning_parser, read_calibration(Path(args.model))
    target = await asyncio.to_thread(served_target, engine, parser, calibration, threshold.nats)
    service = Service(
        target, registry, default, receiver, models, args.max_branches, database, threshold, args.retention_days, spans,
        stop_tokens(engine, target), args.trace_tokens,
    )  # fmt: skip
    own = [named.policy for named in registry if not named.builtin or named.policy.name == default]
    for policy in own:
        service.compile(policy)  # a policy that this model cannot express is an error now, not at its first request
    ours = Middleware(PolicyMiddleware, service=service, most_bytes=args.max_body_mib << 20)
    app.user_middleware.append(ours)  # innermost: behind vLLM's authentication
    app.add_exception_handler(ApiError, refusal)
    app.add_exception_handler(InputError, wrong_policy)
    app.middleware_stack = app.build_middleware_stack()  # build_app has built it already, without ours
    app.include_router(policies_router(service, args.admin_api_key))
    app.include_router(experiments_router(service, args.admin_api_key))
    app.include_router(forks_router(service))
    app.include_router(calibration_router(service, args.admin_api_key))
    app.include_router(viewer_router())
    describe_bodies(app)
    await init_app_state(
        cast(EngineClient, InterveningEngine(engine, BranchLimits(args.max_branches, args.max_live_branches))),
        app.state,
        args,
        tasks,
    )
    metrics.BUILD.labels(__version__, vllm.__version__, names()[0]).set(1)
    for warning in threshold.warnings():
        logger.warning(warning)
    logger.info("serving on %s with %d named policies", address, len(list(registry)))
    log_config = get_uvicorn_log_config(args)
    options: dict[str, Any] = {"log_config": log_config} if log_config is not None else {}
    await service.start()
    after_requests.push_async_callback(service.stop)
    return await serve_http(
        app,
        sock=sock,
        enable_ssl_refresh=args.enable_ssl_refresh,
        host=args.host,
        port=args.port,
        log_level=args.uvicorn_log_level,
        access_log=not args.disable_uvicorn_access_log,
        timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        ssl_keyfile=args.ssl_keyfile,
        ssl_certfile=args.ssl_certfile,
        ssl_ca_certs=args.ssl_ca_certs,
        ssl_cert_reqs=args.ssl_cert_reqs,
        ssl_ciphers=args.ssl_ciphers,
        h11_max_incomplete_event_size=args.h11_max_incomplete_event_size,
        h11_max_header_count=args.h11_max_header_count,
        **options,
    )


async def _warm_up(engine: EngineClient) -> None:
    """One token with logprobs: on a CPU vLLM compiles for many seconds at the first, and a user's request would time out."""
    params = SamplingParams(max_tokens=1, logprobs=1 if engine.model_config.max_logprobs else None, temperature=1.0)
    async for _ in engine.generate(TokensPrompt(prompt_token_ids=[0]), params, "forkpoint-warm-up"):
        pass
