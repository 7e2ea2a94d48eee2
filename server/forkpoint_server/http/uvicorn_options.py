"""What uvicorn, the HTTP server, is started with: vLLM's options, and ours beside them."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute

from forkpoint_server.vllm_seam import envs, get_uvicorn_log_config

SHUTDOWN_SECONDS = 10
"""How long responses may take to end after the engine has stopped. `--shutdown-timeout` is the engine's, before it."""


def vllm_http_options(args: Namespace) -> dict[str, Any]:
    """Uvicorn's options, as vLLM sets them."""
    log_config = get_uvicorn_log_config(args)
    return {
        "enable_ssl_refresh": args.enable_ssl_refresh,
        "host": args.host,
        "port": args.port,
        "log_level": args.uvicorn_log_level,
        "access_log": not args.disable_uvicorn_access_log,
        "timeout_keep_alive": envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        "ssl_keyfile": args.ssl_keyfile,
        "ssl_certfile": args.ssl_certfile,
        "ssl_ca_certs": args.ssl_ca_certs,
        "ssl_cert_reqs": args.ssl_cert_reqs,
        "ssl_ciphers": args.ssl_ciphers,
        "h11_max_incomplete_event_size": args.h11_max_incomplete_event_size,
        "h11_max_header_count": args.h11_max_header_count,
        **({"log_config": log_config} if log_config is not None else {}),
    }


def own_http_options(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """Uvicorn's options that vLLM leaves at their defaults.

    Without a limit, uvicorn waits for a client that never sends the rest of its request, and for one whose engine
    ended before it said so. With WebSockets on, it leaves a POST with `Upgrade: websocket` unanswered for as long as
    its client waits; without, `BodyLimit` answers it.
    """
    speaks_websocket = any(isinstance(route, WebSocketRoute) for route in routes)
    return {"timeout_graceful_shutdown": SHUTDOWN_SECONDS, **({} if speaks_websocket else {"ws": "none"})}
