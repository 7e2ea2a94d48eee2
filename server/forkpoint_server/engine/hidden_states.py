"""Lets the worker read the last layer's hidden states, for policies whose conditions depend on them."""

from __future__ import annotations

from collections.abc import Iterable

from forkpoint_policies.worker.last_layer import EXTENSION, StateReading
from forkpoint_server.vllm_seam import EngineClient, VllmConfig

READ_STATES = StateReading.forkpoint_read_states.__name__


async def start_reading(engine: EngineClient) -> str:
    """Hook the served model in every worker; empty, or why its hidden states cannot be read."""
    problem = unreadable(engine.vllm_config)
    return problem or first_problem(await engine.collective_rpc(READ_STATES))


def unreadable(config: VllmConfig) -> str:
    """Why no worker could be asked for its hidden states; empty if each can."""
    found = config.parallel_config.worker_extension_cls
    if found == EXTENSION:
        return ""
    return f"the server was started with --worker-extension-cls {found}, which takes the place of Forkpoint's"


def first_problem(answers: Iterable[str]) -> str:
    """The first answer of a worker that is not empty."""
    return next(filter(None, answers), "")
