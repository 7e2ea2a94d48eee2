"""The openai SDK's clients, with a default policy and the routes that are Forkpoint's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openai

DEFAULT_URL = "http://127.0.0.1:8000/v1"


class Forkpoint(openai.OpenAI):
    """`openai.OpenAI` for a Forkpoint server; `policy` names the policy of every request that asks for none itself.

    A policy for one request is the SDK's own `extra_body={"policy": …}`. Without a key, none is sent.
    """

    def __init__(self, *, base_url: str = DEFAULT_URL, api_key: str = "none", policy: str | None = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key, default_headers=_headers(policy, options), **options)

    def policies(self) -> list[dict[str, Any]]:
        """The policies one can ask for by name."""
        listed: dict[str, Any] = self.get("/policies", cast_to=dict[str, Any])
        return list(listed["data"])

    def validate_policy(self, policy: str | Mapping[str, Any]) -> dict[str, Any]:
        """What a policy would do for the served model. Raises openai.BadRequestError when it is wrong."""
        return self.post("/policies/validate", body={"policy": policy}, cast_to=dict[str, Any])

    def trace(self, response_id: str) -> dict[str, Any]:
        """The trace of a recent request: tokens, entropies, forks, interventions."""
        return self.get(f"/forks/{response_id}", cast_to=dict[str, Any])


class AsyncForkpoint(openai.AsyncOpenAI):
    """As Forkpoint, for asyncio."""

    def __init__(self, *, base_url: str = DEFAULT_URL, api_key: str = "none", policy: str | None = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key, default_headers=_headers(policy, options), **options)

    async def policies(self) -> list[dict[str, Any]]:
        """The policies one can ask for by name."""
        listed: dict[str, Any] = await self.get("/policies", cast_to=dict[str, Any])
        return list(listed["data"])

    async def validate_policy(self, policy: str | Mapping[str, Any]) -> dict[str, Any]:
        """What a policy would do for the served model. Raises openai.BadRequestError when it is wrong."""
        return await self.post("/policies/validate", body={"policy": policy}, cast_to=dict[str, Any])

    async def trace(self, response_id: str) -> dict[str, Any]:
        """The trace of a recent request: tokens, entropies, forks, interventions."""
        return await self.get(f"/forks/{response_id}", cast_to=dict[str, Any])


def _headers(policy: str | None, options: dict[str, Any]) -> dict[str, str]:
    given: Mapping[str, str] = options.pop("default_headers", None) or {}
    return {**({"X-Forkpoint-Policy": policy} if policy else {}), **given}
