"""Sends questions to any OpenAI-compatible server with a seed and, if the server is a Forkpoint, a policy.

The openai SDK retries lost connections, 429 and 5xx with exponential backoff. If the server rejects one question (its
prompt is too long, say), the answer has an `error`. A server that is gone, or that rejects every question alike, ends
the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

from .defaults import RETRIES

NO_POLICY = "none"
"""Makes a Forkpoint apply no policy, regardless of its default and of running experiments."""

FIRST_CONTACT_SECONDS = 10.0
"""How long the first answer of a server may take; a list of models needs no engine."""

ENDED = "It answered before and now refuses connections, so its process has probably ended; its log says why."
CPU_FAULT = (
    'On a CPU, stock vLLM ends with "CPU Generator does not use offset" when it computes the prompt of a request with '
    "a seed in pieces: start it with --no-enable-chunked-prefill, or use forkpoint serve."
)
"""All our requests have a seed."""

Messages = Sequence[Mapping[str, Any]]


class ServerLostError(Exception):
    """Every try ended without an answer, or with 429 or 5xx. Earlier answers remain valid."""


class ServerRefusesError(Exception):
    """The server would reject every question alike: an unknown model, a wrong key, an invalid policy."""


@dataclass(frozen=True)
class SamplingParams:
    """Sampling parameters shared by all compared arms. `extra` holds further fields of the request's body."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The fields of the request's body; unset ones are left to the server."""
        fields = {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True)
class Choice:
    """One text of an answer. `finish_reason` is "length" if it was truncated."""

    text: str
    reasoning: str
    finish_reason: str | None


@dataclass(frozen=True)
class Answer:
    """The response to a question.

    `tokens` counts all generated tokens of all choices; `reasoning_tokens` is None if the server does not report it.
    `latency_seconds` runs from the first try to the last byte. `forkpoint` is the response's object of that name. An
    answer with an `error` has no choices.
    """

    choices: tuple[Choice, ...] = ()
    tokens: int = 0
    reasoning_tokens: int | None = None
    latency_seconds: float = 0.0
    forkpoint: Mapping[str, Any] | None = None
    response_id: str | None = None
    error: str | None = None

    @property
    def text(self) -> str:
        """The first choice's text after its reasoning."""
        return self.choices[0].text if self.choices else ""

    @property
    def reasoning(self) -> str:
        return self.choices[0].reasoning if self.choices else ""

    @property
    def finish_reason(self) -> str | None:
        return self.choices[0].finish_reason if self.choices else None

    @property
    def effect(self) -> float | None:
        """The expected number of tokens that the policy changed; None unless a Forkpoint reports it."""
        if self.forkpoint is None:
            return None
        return float(sum(action["effect"] for action in self.forkpoint.get("interventions", {}).values()))

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Answer:
        return cls(**{**data, "choices": tuple(Choice(**choice) for choice in data["choices"])})


@dataclass(frozen=True)
class Question:
    """One request. `policy` is a name, an object, or None to send no policy; `answers` is the number of choices."""

    messages: Messages
    seed: int
    policy: str | Mapping[str, Any] | None = None
    answers: int = 1
    forks: bool = False


def without_userinfo(url: str) -> str:
    """A URL that is safe to print and store: without a user name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


class Asker:
    """Sends questions to one model of one server, at most `concurrency` at a time.

    Use it as `async with Asker(…) as asker`.

    `url` is the server's, without a password: messages and journals show it.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str = "none",
        concurrency: int = 16,
        retries: int = RETRIES,
        timeout_seconds: float = 3600,
    ) -> None:
        self.url = without_userinfo(url)
        self.model = model
        self.client = openai.AsyncOpenAI(base_url=url, api_key=api_key, max_retries=retries, timeout=timeout_seconds)
        self._free = asyncio.Semaphore(concurrency)
        self._reached = False
        """Whether the server ever responded."""
        self._forkpoint = False
        """Whether the server is known to be a Forkpoint."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()

    async def reach(self) -> None:
        """Contact the server for the first time, without the retries of a run: a wrong address fails at once.

        Raises ServerLostError. An answer of any kind is a contact.
        """
        try:
            first = self.client.with_options(max_retries=0, timeout=FIRST_CONTACT_SECONDS)
            await first.get("/models", cast_to=object)
        except openai.APIConnectionError as error:
            raise ServerLostError(f"{self.url} does not answer: {_cause(error)}") from None
        except openai.APIError:
            pass  # what is wrong with it, the next request says

    async def ask(self, question: Question, sampling: SamplingParams) -> Answer:
        """The answer to a question. Raises ServerLostError and ServerRefusesError."""
        extra: dict[str, Any] = dict(sampling.extra)
        if question.policy is not None:
            extra["policy"] = question.policy
        if question.forks:
            extra["forks"] = True
        fields: dict[str, Any] = sampling.fields() | ({"n": question.answers} if question.answers > 1 else {})
        async with self._free:
            started_at = time.monotonic()
            try:
                response = await self.client.chat.completions.create(
                    model=self.model,
                    messages=list(question.messages),  # type: ignore[arg-type]  # the server checks them
                    seed=question.seed,
                    extra_body=extra or None,
                    **fields,
                )
            except openai.APIError as error:
                return Answer(error=self.reason(error), latency_seconds=time.monotonic() - started_at)
            self._reached = True
            return _answer(response, round(time.monotonic() - started_at, 4))

    async def trace(self, response_id: str) -> dict[str, Any]:
        """The trace of a recent answer under a policy: the body of `GET /v1/forks/{id}`. Raises as `get` does."""
        return await self.get(f"/forks/{response_id}")

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON body of any route below the server's URL. Raises ServerLostError, ServerRefusesError."""
        try:
            body = await self.client.get(path, cast_to=dict[str, Any])
        except openai.APIError as error:
            raise ServerRefusesError(f"{self.url}: {self.reason(error)}") from None
        self._reached = True
        return body

    async def validate(self, policy: str | Mapping[str, Any]) -> dict[str, Any]:
        """The server's validation of a policy.

        Raises ServerRefusesError with the reason if it is invalid, and ServerLostError.
        """
        try:
            return await self.client.post("/policies/validate", body={"policy": policy}, cast_to=dict[str, Any])
        except openai.APIError as error:
            raise ServerRefusesError(f"{self.url}: {self.reason(error)}") from None

    async def is_forkpoint(self) -> bool:
        """Whether the server accepts policies. Raises ServerLostError, and ServerRefusesError if the key is wrong."""
        try:
            policies: Any = await self.client.get("/policies", cast_to=object)
        except openai.APIStatusError as error:
            self._reached = not _is_transient(error)
            if error.status_code in (401, 403) or _is_transient(error):
                self.reason(error)
            return False
        except openai.APIError as error:
            self.reason(error)
            return False
        self._reached = True
        self._forkpoint = isinstance(policies, dict) and isinstance(policies.get("data"), list)
        return self._forkpoint

    def reason(self, error: openai.APIError) -> str:
        """Why the server rejected this one question.

        Raises ServerLostError or ServerRefusesError if the error is not about it.
        """
        if isinstance(error, openai.APIConnectionError) or _is_transient(error):
            cause = _cause(error) if isinstance(error, openai.APIConnectionError) else error_message(error)
            raise ServerLostError(
                f"{self.url} does not answer, after {self.client.max_retries + 1} tries: {cause}"
                f"{self._how_it_ended(error)}"
            ) from None
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError | openai.NotFoundError):
            raise ServerRefusesError(f"{self.url}: {error_message(error)}") from None
        return error_message(error)

    def _how_it_ended(self, error: openai.APIError) -> str:
        """What a refused connection says about a server that worked before; empty for any other error."""
        refused = type(error.__cause__).__name__ == "ConnectError"  # of httpx or httpx2, whichever the SDK uses
        if not self._reached or not refused:
            return ""
        return f"\n{ENDED}" if self._forkpoint else f"\n{ENDED} {CPU_FAULT}"


def error_message(error: openai.OpenAIError) -> str:
    """The server's own message if there is one, else the SDK's; of a lost connection, its URL and the cause."""
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
        return str(error.body.get("message", error))
    if isinstance(error, openai.APIConnectionError):
        url = error.request.url
        port = f":{url.port}" if url.port else ""
        return f"{url.scheme}://{url.host}{port} does not answer: {_cause(error)}"
    return str(error)


def _cause(error: openai.APIConnectionError) -> str:
    """Why a server could not be reached."""
    cause = error.__cause__
    return str(cause) if cause and str(cause) else str(error)


def _is_transient(error: openai.APIError) -> bool:
    """Whether a later retry may succeed."""
    return isinstance(error, openai.APIStatusError) and (error.status_code == 429 or error.status_code >= 500)


def _answer(response: ChatCompletion, latency_seconds: float) -> Answer:
    """Read a response that nothing has checked yet: gateways send errors and HTML pages with status 200."""
    raw_choices = getattr(response, "choices", None)
    if (
        not isinstance(raw_choices, list)
        or not raw_choices
        or not all(getattr(choice, "message", None) for choice in raw_choices)
    ):
        why = getattr(response, "error", None)
        return Answer(error=f"the answer has no choices{f': {why}' if why else ''}", latency_seconds=latency_seconds)
    choices = []
    for choice in response.choices:
        extra = choice.message.model_extra or {}
        reasoning = extra.get("reasoning") or extra.get("reasoning_content") or ""
        choices.append(Choice(choice.message.content or "", reasoning, choice.finish_reason))
    usage = response.usage
    forkpoint: Mapping[str, Any] | None = (response.model_extra or {}).get("forkpoint")
    details = usage.completion_tokens_details if usage is not None else None
    reasoning_tokens = details.reasoning_tokens if details is not None else None
    if reasoning_tokens is None and forkpoint is not None:
        reasoning_tokens = forkpoint.get("reasoning_tokens")
    return Answer(
        tuple(choices),
        usage.completion_tokens if usage is not None else 0,
        reasoning_tokens,
        latency_seconds,
        forkpoint,
        response.id,
    )
