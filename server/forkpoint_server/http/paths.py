"""The routes that the middlewares treat differently."""

from __future__ import annotations

from starlette.routing import BaseRoute, Match
from starlette.types import Scope

HEALTH = "/health"
METRICS = "/metrics"
MODELS = "/v1/models"
FORKS = "/v1/forks"
PAGE = "/forkpoint"
STATES = "/v1/states"
OWN = ("/v1/policies", "/v1/experiments", "/v1/calibration", "/v1/vectors", STATES)
"""Forkpoint's routes, but FORKS, that take a policy from no request."""

WITHOUT_TEXT = frozenset(
    {
        # tokens and prompts
        "/tokenize", "/detokenize", "/v1/messages/count_tokens",
        "/v1/chat/completions/render", "/v1/completions/render", "/v1/messages/render", "/v1/responses/render",
        "/v1/chat/completions/derender", "/v1/completions/derender", "/cohere/v2/chat/render",
        # vectors and scores
        "/v1/embeddings", "/v2/embed", "/pooling", "/classify", "/score", "/v1/score",
        "/rerank", "/v1/rerank", "/v2/rerank",
        # the server
        "/ping", "/v1/responses/{response_id}/cancel", "/abort_requests", "/inference/v1/abort_requests",
        "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/start_profile", "/stop_profile", "/collective_rpc",
        "/sleep", "/wake_up", "/release_kv_cache_memory",
        "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache",
        "/pause", "/resume", "/init_weight_transfer_engine", "/shutdown_weight_transfer_engine",
        "/start_weight_update", "/start_draft_weight_update", "/update_weights", "/finish_weight_update",
        "/update_weight_version", "/weight_checker",
        "/scale_elastic_ep", "/is_scaling_elastic_ep", "/fault_tolerance/apply",
    }
)  # fmt: skip
"""vLLM's POST routes that generate no text. A policy named on any other, known or not, would be passed over."""


def post_route_of(scope: Scope) -> BaseRoute | None:
    """The app's route that answers a POST request, None where there is none."""
    routes: list[BaseRoute] = scope["app"].routes
    return next((route for route in routes if route.matches(scope)[0] == Match.FULL), None)


def may_generate(scope: Scope) -> bool:
    """Whether a POST request may generate text: its route exists, and is not known to generate none."""
    path = getattr(post_route_of(scope), "path", None)
    return path is not None and path not in WITHOUT_TEXT


def path_of(scope: Scope) -> str:
    """The path of an HTTP request below the server's root; empty for other connections."""
    if scope["type"] != "http":
        return ""
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))
