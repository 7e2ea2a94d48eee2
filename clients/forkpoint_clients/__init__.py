"""Python clients of a Forkpoint server, built on the openai SDK, and the `forkpoint` commands that call one."""

from .client import AsyncForkpoint, Forkpoint

__all__ = ["AsyncForkpoint", "Forkpoint"]
