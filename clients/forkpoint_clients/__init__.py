"""Python clients of a Forkpoint server, built on the openai SDK, and the `forkpoint` commands that call one."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AsyncForkpoint, Forkpoint
    from .policy_builder import policy, rule, use
    from .responses import ForkpointCompletion, forkpoint_of

__all__ = ["AsyncForkpoint", "Forkpoint", "ForkpointCompletion", "forkpoint_of", "policy", "rule", "use"]

_MODULES = {
    "AsyncForkpoint": "client", "Forkpoint": "client",
    "policy": "policy_builder", "rule": "policy_builder", "use": "policy_builder",
    "ForkpointCompletion": "responses", "forkpoint_of": "responses",
}  # fmt: skip
"""Where each name is. They are imported when they are used: the commands are in this package too, and the help of one
need not wait for the openai SDK."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
