"""The openai SDK's clients with a default policy, and with Forkpoint's own routes."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Self

import openai

from .generation import (
    AsyncForkpointChat,
    AsyncForkpointResponses,
    AsyncForkpointTextCompletions,
    ForkpointChat,
    ForkpointResponses,
    ForkpointTextCompletions,
)
from .policy_builder import PolicyLike
from .resources import AsyncExperiments, AsyncForks, AsyncPolicies, Experiments, Forks, Policies
from .server_address import DEFAULT_URL, KEY_VARIABLE, SERVER_VARIABLE, api_url


class Forkpoint(openai.OpenAI):
    """`openai.OpenAI` for a Forkpoint server.

    `policy` is that of every generating request that names none: a name, an object, or one built with
    `forkpoint_clients.policy`. `create` takes `policy`, `forks`, `policy_logprobs` and `stop_in` beside the SDK's
    arguments. Without `base_url` and `api_key`, the variables FORKPOINT_SERVER and FORKPOINT_API_KEY count, as they do
    for the commands. Other `options` are those of `openai.OpenAI`.
    """

    def __init__(
        self,
        *,
        base_url: Any = None,
        api_key: Any = None,
        policy: PolicyLike | None = None,
        **options: Any,
    ) -> None:
        super().__init__(base_url=_url(base_url), api_key=_key(api_key), **options)
        self._policy = policy

    @cached_property
    def chat(self) -> ForkpointChat:
        """Chat completions, with a policy."""
        return ForkpointChat(self, self._policy)

    @cached_property
    def completions(self) -> ForkpointTextCompletions:
        """Completions of a prompt, with a policy."""
        return ForkpointTextCompletions(self, self._policy)

    @cached_property
    def responses(self) -> ForkpointResponses:
        """The responses API, with a policy."""
        return ForkpointResponses(self, self._policy)

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

    def copy(self, *, policy: PolicyLike | None = None, **options: Any) -> Self:
        """The same client with other options, as in the SDK; `policy` replaces the default policy."""
        return super().copy(**options, _extra_kwargs={"policy": self._policy if policy is None else policy})

    with_options = copy  # as the SDK names it too


class AsyncForkpoint(openai.AsyncOpenAI):
    """The asyncio counterpart of `Forkpoint`."""

    def __init__(
        self,
        *,
        base_url: Any = None,
        api_key: Any = None,
        policy: PolicyLike | None = None,
        **options: Any,
    ) -> None:
        super().__init__(base_url=_url(base_url), api_key=_key(api_key), **options)
        self._policy = policy

    @cached_property
    def chat(self) -> AsyncForkpointChat:
        """Chat completions, with a policy."""
        return AsyncForkpointChat(self, self._policy)

    @cached_property
    def completions(self) -> AsyncForkpointTextCompletions:
        """Completions of a prompt, with a policy."""
        return AsyncForkpointTextCompletions(self, self._policy)

    @cached_property
    def responses(self) -> AsyncForkpointResponses:
        """The responses API, with a policy."""
        return AsyncForkpointResponses(self, self._policy)

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

    def copy(self, *, policy: PolicyLike | None = None, **options: Any) -> Self:
        """The same client with other options, as in the SDK; `policy` replaces the default policy."""
        return super().copy(**options, _extra_kwargs={"policy": self._policy if policy is None else policy})

    with_options = copy  # as the SDK names it too


def _url(base_url: Any) -> Any:
    """A server's API: as written, or that of the environment, or of a server on this machine."""
    url = os.environ.get(SERVER_VARIABLE, DEFAULT_URL) if base_url is None else base_url
    return api_url(url) if isinstance(url, str) else url


def _key(api_key: Any) -> Any:
    """The key that the requests have; "none" where the server needs none."""
    return os.environ.get(KEY_VARIABLE, "none") if api_key is None else api_key
