"""The openai SDK's clients with a default policy, and with Forkpoint's own routes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import openai

from .resources import AsyncExperiments, AsyncForks, AsyncPolicies, Experiments, Forks, Policies

DEFAULT_URL = "http://127.0.0.1:8000/v1"


def api_url(url: str) -> str:
    """A server's API from what a user writes: with `http://`, and `/v1` where the URL has no path."""
    url = url if "://" in url else f"http://{url}"
    parts = urlsplit(url)
    return parts._replace(path="/v1").geturl() if parts.path in ("", "/") else url


class Forkpoint(openai.OpenAI):
    """`openai.OpenAI` for a Forkpoint server.

    `policy` names the default policy: it applies to every request that does not set its own. To set a policy for one
    request, pass the SDK's `extra_body={"policy": …}`. Other `options` are those of `openai.OpenAI`.
    """

    def __init__(
        self, *, base_url: str = DEFAULT_URL, api_key: str = "none", policy: str | None = None, **options: Any
    ) -> None:
        super().__init__(base_url=base_url, api_key=api_key, default_headers=_headers(policy, options), **options)

    @cached_property
    def policies(self) -> Policies:
        """The policies that requests can use by name."""
        return Policies(self)

    @cached_property
    def experiments(self) -> Experiments:
        """Experiments on live traffic."""
        return Experiments(self)

    @cached_property
    def forks(self) -> Forks:
        """Fork points of generated or supplied texts."""
        return Forks(self)


class AsyncForkpoint(openai.AsyncOpenAI):
    """The asyncio counterpart of `Forkpoint`."""

    def __init__(
        self, *, base_url: str = DEFAULT_URL, api_key: str = "none", policy: str | None = None, **options: Any
    ) -> None:
        super().__init__(base_url=base_url, api_key=api_key, default_headers=_headers(policy, options), **options)

    @cached_property
    def policies(self) -> AsyncPolicies:
        """The policies that requests can use by name."""
        return AsyncPolicies(self)

    @cached_property
    def experiments(self) -> AsyncExperiments:
        """Experiments on live traffic."""
        return AsyncExperiments(self)

    @cached_property
    def forks(self) -> AsyncForks:
        """Fork points of generated or supplied texts."""
        return AsyncForks(self)


def _headers(policy: str | None, options: dict[str, Any]) -> dict[str, str]:
    default_headers: Mapping[str, str] = options.pop("default_headers", None) or {}
    return {**({"X-Forkpoint-Policy": policy} if policy else {}), **default_headers}
