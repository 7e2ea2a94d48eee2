"""The openai SDK's clients, with a default policy and the routes that are Forkpoint's own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import openai

from .resources import AsyncExperiments, AsyncForks, AsyncPolicies, Experiments, Forks, Policies

DEFAULT_URL = "http://127.0.0.1:8000/v1"


class Forkpoint(openai.OpenAI):
    """`openai.OpenAI` for a Forkpoint server; `policy` names the policy of every request that asks for none itself.

    A policy for one request is the SDK's own `extra_body={"policy": …}`. Without a key, none is sent.
    """

    def __init__(
        self, *, base_url: str = DEFAULT_URL, api_key: str = "none", policy: str | None = None, **options: Any
    ) -> None:
        super().__init__(base_url=base_url, api_key=api_key, default_headers=_headers(policy, options), **options)

    @cached_property
    def policies(self) -> Policies:
        """The policies that can be asked for by name."""
        return Policies(self)

    @cached_property
    def experiments(self) -> Experiments:
        """Experiments on live traffic."""
        return Experiments(self)

    @cached_property
    def forks(self) -> Forks:
        """Where texts forked."""
        return Forks(self)


class AsyncForkpoint(openai.AsyncOpenAI):
    """As Forkpoint, for asyncio."""

    def __init__(
        self, *, base_url: str = DEFAULT_URL, api_key: str = "none", policy: str | None = None, **options: Any
    ) -> None:
        super().__init__(base_url=base_url, api_key=api_key, default_headers=_headers(policy, options), **options)

    @cached_property
    def policies(self) -> AsyncPolicies:
        """The policies that can be asked for by name."""
        return AsyncPolicies(self)

    @cached_property
    def experiments(self) -> AsyncExperiments:
        """Experiments on live traffic."""
        return AsyncExperiments(self)

    @cached_property
    def forks(self) -> AsyncForks:
        """Where texts forked."""
        return AsyncForks(self)


def _headers(policy: str | None, options: dict[str, Any]) -> dict[str, str]:
    given: Mapping[str, str] = options.pop("default_headers", None) or {}
    return {**({"X-Forkpoint-Policy": policy} if policy else {}), **given}
