"""The SDK's resources that generate, with Forkpoint's fields as arguments: `policy`, `forks` and the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal, Required, Unpack, overload

import openai
from openai._types import Body, Headers, NotGiven, Query
from openai.resources.chat import AsyncChat, AsyncCompletions, Chat, Completions
from openai.resources.completions import AsyncCompletions as AsyncTextCompletions
from openai.resources.completions import Completions as TextCompletions
from openai.resources.responses import AsyncResponses, Responses
from openai.types import Completion
from openai.types import completion_create_params as text_params
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses import response_create_params as response_params
from typing_extensions import TypedDict

from .policy_builder import PolicyLike, to_json
from .responses import ForkpointChunk, ForkpointCompletion, ForkpointResponse, ForkpointTextCompletion

FIELDS = ("policy", "forks", "policy_logprobs", "stop_in")


class Fields(TypedDict, total=False):
    """What a request can have besides the SDK's own arguments.

    `policy_logprobs` adds the log probabilities of the distribution sampled from; `stop_in` says where the request's
    `stop` strings stop.
    """

    policy: PolicyLike | None
    forks: bool
    policy_logprobs: bool
    stop_in: Literal["anywhere", "answer"]
    extra_headers: Headers | None
    extra_query: Query | None
    extra_body: Body | None
    timeout: float | openai.Timeout | NotGiven | None


class ChatRequest(chat_params.CompletionCreateParamsNonStreaming, Fields, total=False):
    """A chat completion."""


class ChatStreamRequest(chat_params.CompletionCreateParamsStreaming, Fields, total=False):
    """A chat completion that is streamed."""


class AnyChatRequest(chat_params.CompletionCreateParamsBase, Fields, total=False):
    """A chat completion of which only `stream` says whether it is streamed."""

    stream: Required[bool]


class TextRequest(text_params.CompletionCreateParamsNonStreaming, Fields, total=False):
    """A completion."""


class TextStreamRequest(text_params.CompletionCreateParamsStreaming, Fields, total=False):
    """A completion that is streamed."""


class AnyTextRequest(text_params.CompletionCreateParamsBase, Fields, total=False):
    """A completion of which only `stream` says whether it is streamed."""

    stream: Required[bool]


class ResponseRequest(response_params.ResponseCreateParamsNonStreaming, Fields, total=False):
    """A response."""


class ResponseStreamRequest(response_params.ResponseCreateParamsStreaming, Fields, total=False):
    """A response that is streamed."""


class AnyResponseRequest(response_params.ResponseCreateParamsBase, Fields, total=False):
    """A response of which only `stream` says whether it is streamed."""

    stream: Required[bool]


def with_fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request's arguments for the SDK: Forkpoint's fields in the body. What `extra_body` sets has precedence."""
    own = {name: request[name] for name in FIELDS if request.get(name) is not None}
    rest = {name: value for name, value in request.items() if name not in FIELDS}
    if "policy" in own:
        own["policy"] = to_json(own["policy"])
    return {**rest, "extra_body": {**own, **(rest.get("extra_body") or {})}} if own else rest


def posting(post: Callable[..., Any], policy: PolicyLike | None) -> Callable[..., Any]:
    """A client's `post` whose responses are Forkpoint's types; `policy` is that of requests which name none.

    The SDK's helpers (`parse`, `stream`, `with_raw_response`) end in `post` too, so they get both.
    """

    def typed_post(path: str, **arguments: Any) -> Any:
        if policy is not None:
            arguments = {**arguments, "options": _with_default(policy, arguments)}
        arguments["cast_to"] = _TYPES.get(arguments["cast_to"], arguments["cast_to"])
        if "stream_cls" in arguments:
            arguments["stream_cls"] = _STREAMS.get(arguments["stream_cls"], arguments["stream_cls"])
        return post(path, **arguments)

    return typed_post


_TYPES: Mapping[Any, Any] = {
    ChatCompletion: ForkpointCompletion,
    Completion: ForkpointTextCompletion,
    Response: ForkpointResponse,
}
_STREAMS: Mapping[Any, Any] = {
    openai.Stream[ChatCompletionChunk]: openai.Stream[ForkpointChunk],
    openai.Stream[Completion]: openai.Stream[ForkpointTextCompletion],
    openai.AsyncStream[ChatCompletionChunk]: openai.AsyncStream[ForkpointChunk],
    openai.AsyncStream[Completion]: openai.AsyncStream[ForkpointTextCompletion],
}
HEADER = "x-forkpoint-policy"


def _with_default(policy: PolicyLike, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a request, with the policy in its body unless its body or a header of it names one."""
    options = dict(arguments.get("options") or {})
    body = {**(arguments.get("body") or {}), **(options.get("extra_json") or {})}
    named = body.get("policy") is not None or HEADER in map(str.lower, options.get("headers") or ())
    if not named:
        options["extra_json"] = {**(options.get("extra_json") or {}), "policy": to_json(policy)}
    return options


class ForkpointCompletions(Completions):
    """Chat completions, with a policy."""

    def __init__(self, client: openai.OpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._post = posting(client.post, policy)

    @overload  # type: ignore[override]  # the SDK's signature, with four more arguments and narrower results
    def create(self, **request: Unpack[ChatRequest]) -> ForkpointCompletion: ...
    @overload
    def create(self, **request: Unpack[ChatStreamRequest]) -> openai.Stream[ForkpointChunk]: ...
    @overload
    def create(self, **request: Unpack[AnyChatRequest]) -> ForkpointCompletion | openai.Stream[ForkpointChunk]: ...
    def create(self, **request: Any) -> Any:
        """Create a chat completion: `openai`'s arguments, and `policy`, `forks`, `policy_logprobs`, `stop_in`."""
        return super().create(**with_fields(request))


class AsyncForkpointCompletions(AsyncCompletions):
    """The asyncio counterpart of `ForkpointCompletions`."""

    def __init__(self, client: openai.AsyncOpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._post = posting(client.post, policy)

    @overload  # type: ignore[override]
    async def create(self, **request: Unpack[ChatRequest]) -> ForkpointCompletion: ...
    @overload
    async def create(self, **request: Unpack[ChatStreamRequest]) -> openai.AsyncStream[ForkpointChunk]: ...
    @overload
    async def create(
        self, **request: Unpack[AnyChatRequest]
    ) -> ForkpointCompletion | openai.AsyncStream[ForkpointChunk]: ...
    async def create(self, **request: Any) -> Any:
        return await super().create(**with_fields(request))


class ForkpointChat(Chat):
    """The chat API."""

    def __init__(self, client: openai.OpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._policy = policy

    @cached_property
    def completions(self) -> ForkpointCompletions:
        return ForkpointCompletions(self._client, self._policy)


class AsyncForkpointChat(AsyncChat):
    """The asyncio counterpart of `ForkpointChat`."""

    def __init__(self, client: openai.AsyncOpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._policy = policy

    @cached_property
    def completions(self) -> AsyncForkpointCompletions:
        return AsyncForkpointCompletions(self._client, self._policy)


class ForkpointTextCompletions(TextCompletions):
    """Completions of a prompt, with a policy."""

    def __init__(self, client: openai.OpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._post = posting(client.post, policy)

    @overload  # type: ignore[override]
    def create(self, **request: Unpack[TextRequest]) -> ForkpointTextCompletion: ...
    @overload
    def create(self, **request: Unpack[TextStreamRequest]) -> openai.Stream[ForkpointTextCompletion]: ...
    @overload
    def create(
        self, **request: Unpack[AnyTextRequest]
    ) -> ForkpointTextCompletion | openai.Stream[ForkpointTextCompletion]: ...
    def create(self, **request: Any) -> Any:
        """Create a completion: `openai`'s arguments, and `policy`, `forks`, `policy_logprobs`, `stop_in`."""
        return super().create(**with_fields(request))


class AsyncForkpointTextCompletions(AsyncTextCompletions):
    """The asyncio counterpart of `ForkpointTextCompletions`."""

    def __init__(self, client: openai.AsyncOpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._post = posting(client.post, policy)

    @overload  # type: ignore[override]
    async def create(self, **request: Unpack[TextRequest]) -> ForkpointTextCompletion: ...
    @overload
    async def create(self, **request: Unpack[TextStreamRequest]) -> openai.AsyncStream[ForkpointTextCompletion]: ...
    @overload
    async def create(
        self, **request: Unpack[AnyTextRequest]
    ) -> ForkpointTextCompletion | openai.AsyncStream[ForkpointTextCompletion]: ...
    async def create(self, **request: Any) -> Any:
        return await super().create(**with_fields(request))


class ForkpointResponses(Responses):
    """The responses API, with a policy. Of a stream, `response.completed` has the `forkpoint` object."""

    def __init__(self, client: openai.OpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._post = posting(client.post, policy)

    @overload  # type: ignore[override]
    def create(self, **request: Unpack[ResponseRequest]) -> ForkpointResponse: ...
    @overload
    def create(self, **request: Unpack[ResponseStreamRequest]) -> openai.Stream[ResponseStreamEvent]: ...
    @overload
    def create(
        self, **request: Unpack[AnyResponseRequest]
    ) -> ForkpointResponse | openai.Stream[ResponseStreamEvent]: ...
    def create(self, **request: Any) -> Any:
        """Create a response: `openai`'s arguments, and `policy`, `forks`, `policy_logprobs`, `stop_in`."""
        return super().create(**with_fields(request))


class AsyncForkpointResponses(AsyncResponses):
    """The asyncio counterpart of `ForkpointResponses`."""

    def __init__(self, client: openai.AsyncOpenAI, policy: PolicyLike | None) -> None:
        super().__init__(client)
        self._post = posting(client.post, policy)

    @overload  # type: ignore[override]
    async def create(self, **request: Unpack[ResponseRequest]) -> ForkpointResponse: ...
    @overload
    async def create(self, **request: Unpack[ResponseStreamRequest]) -> openai.AsyncStream[ResponseStreamEvent]: ...
    @overload
    async def create(
        self, **request: Unpack[AnyResponseRequest]
    ) -> ForkpointResponse | openai.AsyncStream[ResponseStreamEvent]: ...
    async def create(self, **request: Any) -> Any:
        return await super().create(**with_fields(request))
