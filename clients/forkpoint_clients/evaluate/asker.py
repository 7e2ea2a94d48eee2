"""Asking a question under a policy with a seed, of any OpenAI-compatible server; only a policy asks for a Forkpoint.

Lost connections, 429 and 5xx are tried again by the openai SDK, with growing pauses. What a server refuses for the question's own
sake (too long a prompt, say) is an answer with an `error`; a server that is gone, or refuses every question alike, ends the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion

NO_POLICY = "none"
"""Asks a Forkpoint for no policy, whatever its default is and whatever experiment runs there."""

RETRIES = 7
"""Of one question: with the SDK's pauses of 0.5 s, doubled up to 8 s, half a minute until a server is given up."""

Messages = Sequence[Mapping[str, Any]]


class ServerLostError(Exception):
    """The server did not answer, or answered with 429 or 5xx, in every one of the tries. What was answered before holds."""


class ServerRefusesError(Exception):
    """The server would refuse every question alike: no such model, a wrong key, a wrong policy."""


@dataclass(frozen=True)
class SamplingParams:
    """How to draw, the same for all that are compared. `extra` holds further fields of the request's body."""

    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """As the request's body has them; what is not given is left to the server."""
        given = {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Choice:
    """One text of an answer. `finish_reason` is "length" where it was cut off."""

    text: str
    reasoning: str
    finish_reason: str | None


@dataclass(frozen=True)
class Answer:
    """What came back.

    `tokens` are all that were generated, of all choices; `reasoning_tokens` None where the server does not say.
    `latency_seconds` is from the first try to the last byte, `forkpoint` the object of that name in the response. With an `error`
    there are no choices.
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
        """What the first choice says after its reasoning."""
        return self.choices[0].text if self.choices else ""

    @property
    def reasoning(self) -> str:
        return self.choices[0].reasoning if self.choices else ""

    @property
    def finish_reason(self) -> str | None:
        return self.choices[0].finish_reason if self.choices else None

    @property
    def effect(self) -> float | None:
        """The expected number of tokens that the policy changed; None where no Forkpoint tells."""
        if self.forkpoint is None:
            return None
        return float(sum(one["effect"] for one in self.forkpoint.get("interventions", {}).values()))

    def to_dict(self) -> dict[str, Any]:
        """All fields, as `from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Answer:
        return cls(**{**data, "choices": tuple(Choice(**choice) for choice in data["choices"])})


@dataclass(frozen=True)
class Question:
    """One request: `policy` a name, an object, or None to send nothing of the kind; `answers` the number of choices."""

    messages: Messages
    seed: int
    policy: str | Mapping[str, Any] | None = None
    answers: int = 1
    forks: bool = False


def without_userinfo(url: str) -> str:
    """A URL as it may be told and kept: without the name and password that may stand before its host."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


class Asker:
    """Asks one model of one server, at most `at_once` questions at the same time. Use it as `async with Asker(…) as asker`.

    `url` is what messages tell of it: the server's, without a password.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str = "none",
        at_once: int = 16,
        retries: int = RETRIES,
        timeout_seconds: float = 3600,
    ) -> None:
        self.url = without_userinfo(url)
        self.model = model
        self.client = openai.AsyncOpenAI(base_url=url, api_key=api_key, max_retries=retries, timeout=timeout_seconds)
        self._free = asyncio.Semaphore(at_once)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.close()

    async def ask(self, question: Question, sampling: SamplingParams) -> Answer:
        """The answer to a question. Raises ServerLostError and ServerRefusesError."""
        extra: dict[str, Any] = dict(sampling.extra)
        if question.policy is not None:
            extra["policy"] = question.policy
        if question.forks:
            extra["forks"] = True
        fields: dict[str, Any] = sampling.fields() | ({"n": question.answers} if question.answers > 1 else {})
        async with self._free:
            begun = time.monotonic()
            try:
                response = await self.client.chat.completions.create(
                    model=self.model,
                    messages=list(question.messages),  # type: ignore[arg-type]  # the server checks them
                    seed=question.seed,
                    extra_body=extra or None,
                    **fields,
                )
            except openai.APIError as error:
                return Answer(error=self.reason(error), latency_seconds=time.monotonic() - begun)
            return _answer(response, round(time.monotonic() - begun, 4))

    async def ask_all(
        self, questions: Sequence[Question], sampling: SamplingParams, answered: Callable[[Answer], None] | None = None
    ) -> list[Answer]:
        """The answers, in the questions' order; `answered` is called as each comes. The first error stops the others."""

        async def one(question: Question) -> Answer:
            answer = await self.ask(question, sampling)
            if answered is not None:
                answered(answer)
            return answer

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(question)) for question in questions]
        except* (ServerLostError, ServerRefusesError) as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def trace(self, response_id: str) -> dict[str, Any]:
        """The trace of a recent answer under a policy, as `GET /v1/forks/{id}` tells it. Raises as `get` does."""
        return await self.get(f"/forks/{response_id}")

    async def get(self, path: str) -> dict[str, Any]:
        """Any of the server's routes below its URL. Raises ServerLostError, ServerRefusesError."""
        try:
            return await self.client.get(path, cast_to=dict[str, Any])
        except openai.APIError as error:
            raise ServerRefusesError(f"{self.url}: {self.reason(error)}") from None

    async def validate(self, policy: str | Mapping[str, Any]) -> dict[str, Any]:
        """What a policy would do there. Raises ServerRefusesError with the reason when it is wrong, and ServerLostError."""
        try:
            return await self.client.post("/policies/validate", body={"policy": policy}, cast_to=dict[str, Any])
        except openai.APIError as error:
            raise ServerRefusesError(f"{self.url}: {self.reason(error)}") from None

    async def is_forkpoint(self) -> bool:
        """Whether policies can be asked for there. Raises ServerLostError."""
        try:
            listed: Any = await self.client.get("/policies", cast_to=object)
        except openai.APIStatusError as error:
            if error.status_code in (401, 403) or _passing(error):
                self.reason(error)
            return False
        except openai.APIError as error:
            self.reason(error)
            return False
        return isinstance(listed, dict) and isinstance(listed.get("data"), list)

    def reason(self, error: openai.APIError) -> str:
        """What the server has against this one question. Raises ServerLostError and ServerRefusesError where it is not that."""
        if isinstance(error, openai.APIConnectionError) or _passing(error):
            raise ServerLostError(
                f"{self.url} does not answer, after {self.client.max_retries + 1} tries: {told(error)}"
            ) from None
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError | openai.NotFoundError):
            raise ServerRefusesError(f"{self.url}: {told(error)}") from None
        return told(error)


def told(error: openai.OpenAIError) -> str:
    """The server's own words, where it said any."""
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
        return str(error.body.get("message", error))
    cause = error.__cause__
    return f"{error} ({cause})" if isinstance(error, openai.APIConnectionError) and cause and str(cause) else str(error)


def _passing(error: openai.APIError) -> bool:
    """Whether the same question may be answered later."""
    return isinstance(error, openai.APIStatusError) and (error.status_code == 429 or error.status_code >= 500)


def _answer(response: ChatCompletion, latency_seconds: float) -> Answer:
    """What came back, of which nothing was checked yet: gateways send errors, and pages, as answers."""
    given = getattr(response, "choices", None)
    if not isinstance(given, list) or not all(getattr(choice, "message", None) for choice in given) or not given:
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
