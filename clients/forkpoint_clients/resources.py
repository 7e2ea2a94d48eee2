"""Forkpoint's own routes as openai SDK resources: `client.policies`, `client.experiments`, `client.forks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import openai
from openai.pagination import AsyncPage, SyncPage

from forkpoint_policies.spec import Policy as BuiltPolicy

from .policy_builder import PolicyLike, to_json
from .types import Deleted, Experiment, Policy, Progress, Recorded, Trace, Validation

if TYPE_CHECKING:
    from openai._base_client import AsyncPaginator  # what the SDK's own resources return

Body = Mapping[str, Any]
Outcomes = Body | Sequence[Body]
ProgressCallback = Callable[[Progress], object]
"""Called with the progress of a verification."""


class Policies:
    """The policies that requests can use by name."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client

    def list(self) -> SyncPage[Policy]:
        """All policies."""
        return self._client.get_api_list("/policies", page=SyncPage[Policy], model=Policy)

    def get(self, name: str) -> Policy:
        """One policy. Raises openai.NotFoundError."""
        return self._client.get(_path("policies", name), cast_to=Policy)

    def validate(self, policy: PolicyLike) -> Validation:
        """Check a policy, named or inline, against the served model. Raises openai.BadRequestError if it is invalid."""
        return self._client.post("/policies/validate", body={"policy": to_json(policy)}, cast_to=Validation)

    def put(self, name: str, policy: Body | BuiltPolicy) -> Policy:
        """Store a policy under a name, for every client of the server.

        Raises openai.BadRequestError if it is invalid, openai.AuthenticationError without the admin key.
        """
        return self._client.put(_path("policies", name), body=to_json(policy), cast_to=Policy)

    def delete(self, name: str) -> Deleted:
        """Delete a stored policy. Raises openai.ConflictError while a running experiment uses it."""
        return self._client.delete(_path("policies", name), cast_to=Deleted)


class Experiments:
    """Experiments on live traffic."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client

    def list(self) -> SyncPage[Experiment]:
        """All experiments, without figures."""
        return self._client.get_api_list("/experiments", page=SyncPage[Experiment], model=Experiment)

    def get(self, name: str, effects: Mapping[str, float] | None = None) -> Experiment:
        """One experiment with its `figures` and `analysis`. Raises openai.NotFoundError.

        `effects` maps a metric to the smallest effect of interest, in the metric's unit; the analysis then estimates
        how many more requests it takes to detect it.
        """
        return self._client.get(_experiment(name, effects), cast_to=Experiment)

    def create(self, definition: Body) -> Experiment:
        """Define an experiment.

        Raises openai.BadRequestError naming the invalid field, openai.ConflictError if the name is taken.
        """
        return self._client.post("/experiments", body=definition, cast_to=Experiment)

    def update(self, name: str, change: Body) -> Experiment:
        """Change the `status`, or the `weight` (only up) and `status` of `arms`. Raises openai.BadRequestError."""
        return self._client.patch(_path("experiments", name), body=change, cast_to=Experiment)

    def delete(self, name: str) -> Deleted:
        """Delete an experiment and its recorded data. Raises openai.ConflictError while it runs."""
        return self._client.delete(_path("experiments", name), cast_to=Deleted)

    def record(self, name: str, outcomes: Outcomes) -> Recorded:
        """Record outcomes: `{"request_id": …, "metrics": {"correct": 1}}`, or a list of them. Committed on return."""
        return self._client.post(_path("experiments", name, "outcomes"), body=_outcomes(outcomes), cast_to=Recorded)


class Forks:
    """Fork points of generated or supplied texts."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client

    def get(self, response_id: str) -> Trace:
        """The trace of a recent request, by its response's id or by the `X-Request-Id` that it was sent with.

        Raises openai.NotFoundError if the request had neither a policy nor `forks`, or is no longer stored.
        """
        return _from(self._client, self._client.get(_path("forks", response_id), cast_to=Trace))

    def find(self, *, model: str, progress: ProgressCallback | None = None, **text: Any) -> Trace:
        """Find the forks of a supplied text: `messages`, the last of which is the text, or `prompt` and `completion`.

        `verify=N` generates N continuations of each alternative to see which forks decide the answer. The server's
        other fields are passed on. `progress` is called as the verification advances. Raises openai.BadRequestError.
        """
        body = {"model": model, **text}
        if progress is None:
            return self._client.post("/forks", body=body, cast_to=Trace)
        events = self._client.post(
            "/forks", body={**body, "stream": True}, cast_to=object, stream=True, stream_cls=openai.Stream[Any]
        )
        last_event: Any = None
        for event in events:
            last_event = _report_progress(event, progress)
        return Trace.model_validate(last_event)


class AsyncPolicies:
    """The asyncio counterpart of `Policies`: `async for policy in client.policies.list()`."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    def list(self) -> AsyncPaginator[Policy, AsyncPage[Policy]]:
        return self._client.get_api_list("/policies", page=AsyncPage[Policy], model=Policy)

    async def get(self, name: str) -> Policy:
        return await self._client.get(_path("policies", name), cast_to=Policy)

    async def validate(self, policy: PolicyLike) -> Validation:
        return await self._client.post("/policies/validate", body={"policy": to_json(policy)}, cast_to=Validation)

    async def put(self, name: str, policy: Body | BuiltPolicy) -> Policy:
        return await self._client.put(_path("policies", name), body=to_json(policy), cast_to=Policy)

    async def delete(self, name: str) -> Deleted:
        return await self._client.delete(_path("policies", name), cast_to=Deleted)


class AsyncExperiments:
    """The asyncio counterpart of `Experiments`."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    def list(self) -> AsyncPaginator[Experiment, AsyncPage[Experiment]]:
        return self._client.get_api_list("/experiments", page=AsyncPage[Experiment], model=Experiment)

    async def get(self, name: str, effects: Mapping[str, float] | None = None) -> Experiment:
        return await self._client.get(_experiment(name, effects), cast_to=Experiment)

    async def create(self, definition: Body) -> Experiment:
        return await self._client.post("/experiments", body=definition, cast_to=Experiment)

    async def update(self, name: str, change: Body) -> Experiment:
        return await self._client.patch(_path("experiments", name), body=change, cast_to=Experiment)

    async def delete(self, name: str) -> Deleted:
        return await self._client.delete(_path("experiments", name), cast_to=Deleted)

    async def record(self, name: str, outcomes: Outcomes) -> Recorded:
        return await self._client.post(
            _path("experiments", name, "outcomes"), body=_outcomes(outcomes), cast_to=Recorded
        )


class AsyncForks:
    """The asyncio counterpart of `Forks`."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def get(self, response_id: str) -> Trace:
        return _from(self._client, await self._client.get(_path("forks", response_id), cast_to=Trace))

    async def find(self, *, model: str, progress: ProgressCallback | None = None, **text: Any) -> Trace:
        body = {"model": model, **text}
        if progress is None:
            return await self._client.post("/forks", body=body, cast_to=Trace)
        events = await self._client.post(
            "/forks", body={**body, "stream": True}, cast_to=object, stream=True, stream_cls=openai.AsyncStream[Any]
        )
        last_event: Any = None
        async for event in events:
            last_event = _report_progress(event, progress)
        return Trace.model_validate(last_event)


def _from(client: openai.OpenAI | openai.AsyncOpenAI, trace: Trace) -> Trace:
    """A trace that knows its server, whose viewer shows it."""
    trace._server = str(client.base_url).rstrip("/").removesuffix("/v1")
    return trace


def _path(*parts: str) -> str:
    """A route with names in it, percent-encoded."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _experiment(name: str, effects: Mapping[str, float] | None) -> str:
    query = urlencode([("effect", f"{metric}:{size}") for metric, size in (effects or {}).items()])
    return _path("experiments", name) + (f"?{query}" if query else "")


def _report_progress(event: Any, progress: ProgressCallback) -> Any:
    """Call `progress` for a progress event; return the event unchanged."""
    if event["object"] == "forks.progress":
        progress(Progress.model_validate(event))
    return event


def _outcomes(outcomes: Outcomes) -> Any:
    return dict(outcomes) if isinstance(outcomes, Mapping) else [dict(outcome) for outcome in outcomes]
