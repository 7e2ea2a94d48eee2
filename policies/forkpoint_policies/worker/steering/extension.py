"""The worker extension of a server that steers: `extension.ARCHITECTURE`, for vLLM's `--worker-extension-cls`.

vLLM imports it in every worker before it loads the model, with any executor: asking for the class registers the
architecture.
"""

from __future__ import annotations

from typing import Any

from forkpoint_policies.worker.last_layer import StateReading


class SteeringWorker(StateReading):
    """The methods are those of every server's extension."""


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .model import register

    register(name)
    return SteeringWorker
