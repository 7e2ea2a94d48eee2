"""Python clients of a Forkpoint server, built on the openai SDK, and the `forkpoint` commands that call one."""

from .client import AsyncForkpoint, Forkpoint
from .policy_builder import policy, rule, use
from .responses import ForkpointCompletion, forkpoint_of

__all__ = ["AsyncForkpoint", "Forkpoint", "ForkpointCompletion", "forkpoint_of", "policy", "rule", "use"]
