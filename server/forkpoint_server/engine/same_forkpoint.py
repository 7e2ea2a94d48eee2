"""Refuses workers that run another Forkpoint than the server: on another machine each may have been installed apart."""

from __future__ import annotations

import re

from forkpoint_policies.worker.identity import DIFFERS, own_channel, own_version
from forkpoint_policies.worker.last_layer import StateReading
from forkpoint_server.vllm_seam import EngineClient

from .hidden_states import unreadable

CHECK = StateReading.forkpoint_check.__name__


async def check_workers(engine: EngineClient) -> None:
    """Raise ValueError, in one line, for the first worker with another version or another telemetry key."""
    if unreadable(engine.vllm_config):
        return  # another extension takes the place of ours: there is nobody to ask
    try:
        await engine.collective_rpc(CHECK, args=(own_version(), own_channel()))
    except Exception as error:
        problem = problem_in(str(error))
        if problem is None:
            raise
        raise ValueError(problem) from error


def problem_in(message: str) -> str | None:
    """What a worker said, out of vLLM's message around it; None if the message is about something else."""
    said = re.search(rf"{DIFFERS}[^']*", message)
    if said is not None:
        return said[0]
    if CHECK in message:
        return f"a worker has no {CHECK}: its Forkpoint is older; install {own_version()} on all machines"
    return None
