"""Which layers a server steers, as vLLM's configuration carries it to the workers. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEY = "forkpoint_hidden_layers"
"""In vLLM's `additional_config`, which is part of the key of its cache of compiled models: without it, a model that was
compiled without hooks would be loaded, and nothing would be steered."""
EXTENSIONS = "forkpoint_policies.worker.steering.extension"
"""The module of the classes for vLLM's `--worker-extension-cls`, one for each architecture."""


def hidden_layers(additional_config: Any) -> tuple[int, ...]:
    """The layers that `additional_config` names, in order; none where the server steers nothing."""
    found = additional_config.get(KEY, ()) if isinstance(additional_config, Mapping) else ()
    return tuple(found)


def with_hidden_layers(additional_config: Mapping[str, Any] | None, layers: Sequence[int]) -> dict[str, Any]:
    """The configuration with these layers."""
    return {**(additional_config or {}), KEY: list(layers)}


def extension_of(architecture: str) -> str:
    """The worker extension that makes vLLM load this architecture with hooks."""
    return f"{EXTENSIONS}.{architecture}"
