"""Clients of a Forkpoint server: the openai SDK's, with policies as arguments, and the command line."""

from .client import AsyncForkpoint, Forkpoint

__all__ = ["AsyncForkpoint", "Forkpoint"]
