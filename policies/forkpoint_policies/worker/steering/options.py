"""At which layers a server changes hidden states, as vLLM's configuration carries it to the workers. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KEY = "forkpoint_hidden_layers"
"""In vLLM's `additional_config`, which is part of the key of its cache of compiled models: without it, a model that was
compiled without hooks would be loaded, and nothing would be steered."""
RECYCLE_KEY = "forkpoint_recycle_layers"
"""Likewise, of the layers that can be run again."""
EXTENSIONS = "forkpoint_policies.worker.steering.extension"
"""The module of the classes for vLLM's `--worker-extension-cls`, one for each architecture."""


def hidden_layers(additional_config: Any) -> tuple[int, ...]:
    """The layers to whose outputs vectors can be added, in order; none where the server steers nothing."""
    return _layers(additional_config, KEY)


def recycle_layers(additional_config: Any) -> tuple[int, ...]:
    """The layers that can be run again, in order."""
    return _layers(additional_config, RECYCLE_KEY)


def with_layers(
    additional_config: Mapping[str, Any] | None, hidden: Sequence[int], recycled: Sequence[int] = ()
) -> dict[str, Any]:
    """The configuration with these layers."""
    own = {KEY: list(hidden), RECYCLE_KEY: list(recycled)}
    return {**(additional_config or {}), **{key: layers for key, layers in own.items() if layers}}


def _layers(additional_config: Any, key: str) -> tuple[int, ...]:
    return tuple(additional_config.get(key, ())) if isinstance(additional_config, Mapping) else ()


def extension_of(architecture: str) -> str:
    """The worker extension that makes vLLM load this architecture with hooks."""
    return f"{EXTENSIONS}.{architecture}"
