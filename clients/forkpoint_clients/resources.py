"""Forkpoint's own routes, as the openai SDK builds its resources: `client.policies`, `client.experiments`, `client.forks`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import openai
from openai.pagination import AsyncPage, SyncPage

from .types import Deleted, Experiment, Policy, Progress, Recorded, Trace, Validation

if TYPE_CHECKING:
    from openai._base_client import AsyncPaginator  # what the SDK's own resources give back

Body = Mapping[str, Any]
Outcomes = Body | Sequence[Body]
Tell = Callable[[Progress], object]
"""Is told how far a verification is."""


class Policies:
    """The policies that can be asked for by name."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client

    def list(self) -> SyncPage[Policy]:
        """All of them."""
        return self._client.get_api_list("/policies", page=SyncPage[Policy], model=Policy)

    def get(self, name: str) -> Policy:
        """One of them. Raises openai.NotFoundError."""
        return self._client.get(_path("policies", name), cast_to=Policy)

    def validate(self, policy: str | Body) -> Validation:
        """What a policy, named or inline, would do for the served model. Raises openai.BadRequestError when it is wrong."""
        return self._client.post("/policies/validate", body={"policy": policy}, cast_to=Validation)

    def put(self, name: str, policy: Body) -> Policy:
        """Keep a policy under a name, for all who ask. Raises openai.BadRequestError; AuthenticationError without the admin key."""
        return self._client.put(_path("policies", name), body=policy, cast_to=Policy)

    def delete(self, name: str) -> Deleted:
        """Forget it. Raises openai.ConflictError while an experiment runs with it."""
        return self._client.delete(_path("policies", name), cast_to=Deleted)


class Experiments:
    """Experiments on live traffic."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client

    def list(self) -> SyncPage[Experiment]:
        """All of them, without figures."""
        return self._client.get_api_list("/experiments", page=SyncPage[Experiment], model=Experiment)

    def get(self, name: str, effects: Mapping[str, float] | None = None) -> Experiment:
        """One of them, with `figures` and `analysis`. Raises openai.NotFoundError.

        `effects`: of metrics the smallest effect that interests, in the metric's unit; the analysis says how many more requests
        it takes to see one.
        """
        return self._client.get(_experiment(name, effects), cast_to=Experiment)

    def create(self, definition: Body) -> Experiment:
        """Define one. Raises openai.BadRequestError with the field that is wrong, openai.ConflictError where the name is taken."""
        return self._client.post("/experiments", body=definition, cast_to=Experiment)

    def update(self, name: str, change: Body) -> Experiment:
        """Change its `status`, or of `arms` the `weight` (only up) and `status`. Raises openai.BadRequestError."""
        return self._client.patch(_path("experiments", name), body=change, cast_to=Experiment)

    def delete(self, name: str) -> Deleted:
        """Delete it with all that was recorded. Raises openai.ConflictError while it runs."""
        return self._client.delete(_path("experiments", name), cast_to=Deleted)

    def record(self, name: str, outcomes: Outcomes) -> Recorded:
        """Tell what became known of requests: `{"request_id": …, "metrics": {"correct": 1}}` or several. Committed on return."""
        return self._client.post(_path("experiments", name, "outcomes"), body=_outcomes(outcomes), cast_to=Recorded)


class Forks:
    """Where texts forked."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._client = client

    def get(self, response_id: str) -> Trace:
        """The trace of a recent request. Raises openai.NotFoundError when it had neither policy nor `forks`, or is too long ago."""
        return self._client.get(_path("forks", response_id), cast_to=Trace)

    def find(self, *, model: str, progress: Tell | None = None, **text: Any) -> Trace:
        """The forks of a given text: `messages`, of which the last is the trace, or `prompt` and `completion`.

        `verify=N` continues N times from each alternative to see which forks decide the answer; the server's other fields are
        passed on. `progress` is called with how far that is. Raises openai.BadRequestError.
        """
        body = {"model": model, **text}
        if progress is None:
            return self._client.post("/forks", body=body, cast_to=Trace)
        events = self._client.post(
            "/forks", body={**body, "stream": True}, cast_to=object, stream=True, stream_cls=openai.Stream[Any]
        )
        found: Any = None
        for event in events:
            found = _heard(event, progress)
        return Trace.model_validate(found)


class AsyncPolicies:
    """As Policies, for asyncio; `async for policy in client.policies.list()`."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    def list(self) -> AsyncPaginator[Policy, AsyncPage[Policy]]:
        return self._client.get_api_list("/policies", page=AsyncPage[Policy], model=Policy)

    async def get(self, name: str) -> Policy:
        return await self._client.get(_path("policies", name), cast_to=Policy)

    async def validate(self, policy: str | Body) -> Validation:
        return await self._client.post("/policies/validate", body={"policy": policy}, cast_to=Validation)

    async def put(self, name: str, policy: Body) -> Policy:
        return await self._client.put(_path("policies", name), body=policy, cast_to=Policy)

    async def delete(self, name: str) -> Deleted:
        return await self._client.delete(_path("policies", name), cast_to=Deleted)


class AsyncExperiments:
    """As Experiments, for asyncio."""

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
    """As Forks, for asyncio."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def get(self, response_id: str) -> Trace:
        return await self._client.get(_path("forks", response_id), cast_to=Trace)

    async def find(self, *, model: str, progress: Tell | None = None, **text: Any) -> Trace:
        body = {"model": model, **text}
        if progress is None:
            return await self._client.post("/forks", body=body, cast_to=Trace)
        events = await self._client.post(
            "/forks", body={**body, "stream": True}, cast_to=object, stream=True, stream_cls=openai.AsyncStream[Any]
        )
        found: Any = None
        async for event in events:
            found = _heard(event, progress)
        return Trace.model_validate(found)


def _path(*parts: str) -> str:
    """A route with names in it, whatever characters these have."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _experiment(name: str, effects: Mapping[str, float] | None) -> str:
    asked = urlencode([("effect", f"{metric}:{size}") for metric, size in (effects or {}).items()])
    return _path("experiments", name) + (f"?{asked}" if asked else "")


def _heard(event: Any, progress: Tell) -> Any:
    """Tell of an event that says how far a verification is; any event as it is."""
    if event["object"] == "forks.progress":
        progress(Progress.model_validate(event))
    return event


def _outcomes(outcomes: Outcomes) -> Any:
    return dict(outcomes) if isinstance(outcomes, Mapping) else [dict(one) for one in outcomes]
