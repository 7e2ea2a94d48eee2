"""Sending questions to any OpenAI-compatible server: what is sent, what is retried, and what ends a run."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from typing import Any

import openai
import pytest

from forkpoint_clients.evaluate.asker import (
    Answer,
    Asker,
    Choice,
    Question,
    SamplingParams,
    ServerLostError,
    ServerRefusesError,
)
from tests.unit.clients.stub_server import completion, error, stub_server

MESSAGES = ({"role": "user", "content": "2 + 2?"},)
PLAIN = Question(MESSAGES, seed=7)


async def test_without_a_policy_nothing_is_sent_that_only_forkpoint_knows() -> None:
    with stub_server(lambda _: (200, completion("4"))) as server:
        async with Asker(server.url, "m") as asker:
            answer = await asker.ask(PLAIN, SamplingParams(max_tokens=9, temperature=0.5))
            assert not await asker.is_forkpoint()
    assert server.requests == [
        {"model": "m", "messages": list(MESSAGES), "seed": 7, "max_tokens": 9, "temperature": 0.5}
    ]
    assert (answer.text, answer.tokens, answer.finish_reason, answer.forkpoint, answer.effect) == (
        "4",
        3,
        "stop",
        None,
        None,
    )
    assert answer.response_id == "chatcmpl-1"
    assert answer.latency_seconds > 0


async def test_the_fields_of_requests_and_responses_of_a_forkpoint_server() -> None:
    summary = {
        "interventions": {"suppress": {"fired": 3, "effect": 1.5}, "force": {"fired": 1, "effect": 1.0}},
        "reasoning_tokens": 2,
    }
    with stub_server(lambda _: (200, completion("4", forkpoint=summary))) as server:
        async with Asker(server.url, "m") as asker:
            question = Question(MESSAGES, 7, {"use": "nowait"}, answers=2, forks=True)
            answer = await asker.ask(question, SamplingParams(extra={"top_k": 5}))
    assert server.requests[0].items() >= {"policy": {"use": "nowait"}, "forks": True, "n": 2, "top_k": 5}.items()
    assert answer.effect == 2.5
    assert answer.reasoning_tokens == 2
    assert Answer.from_dict(answer.to_dict()) == answer


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK retries at once instead of after 0.5 s, 1 s, 2 s."""
    monkeypatch.setattr(openai._base_client, "INITIAL_RETRY_DELAY", 0.001)


@pytest.mark.usefixtures("no_pauses")
async def test_transient_failures_are_retried() -> None:
    replies = iter([(503, error("loading")), (0, None), (429, error("busy")), (200, completion("4"))])
    with stub_server(lambda _: next(replies)) as server:
        async with Asker(server.url, "m", retries=3) as asker:
            assert (await asker.ask(PLAIN, SamplingParams())).text == "4"
    assert len(server.requests) == 4


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("status", [0, 429, 500, 503])
async def test_a_lost_server_ends_the_run(status: int) -> None:
    with stub_server(lambda _: (status, error("out of order"))) as server:
        async with Asker(server.url, "m", retries=1) as asker:
            with pytest.raises(ServerLostError, match=r"does not answer, after 2 tries"):
                await asker.ask(PLAIN, SamplingParams())


async def test_a_refused_connection() -> None:
    with stub_server(lambda _: (200, {})) as server:
        pass
    async with Asker(server.url, "m", retries=0) as asker:
        with pytest.raises(ServerLostError, match="connection"):
            await asker.is_forkpoint()


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_error_that_every_question_would_get_ends_the_run(status: int) -> None:
    with stub_server(lambda _: (status, error("no such model"))) as server:
        async with Asker(server.url, "m") as asker:
            with pytest.raises(ServerRefusesError, match="no such model"):
                await asker.ask(PLAIN, SamplingParams())


async def test_an_error_of_one_question_is_stored_as_its_answer() -> None:
    def reply(body: dict[str, Any]) -> tuple[int, Any]:
        return (400, error("too long")) if body["seed"] == 1 else (200, completion("4"))

    with stub_server(reply) as server:
        async with Asker(server.url, "m") as asker:
            answers = [await asker.ask(Question(MESSAGES, seed), SamplingParams()) for seed in range(3)]
    assert [answer.error for answer in answers] == [None, "too long", None]
    assert answers[1].choices == ()
    assert answers[1].text == ""


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({**completion("4"), "choices": None}, "the answer has no choices"),
        ({**completion("4"), "choices": []}, "the answer has no choices"),
        (
            {**completion("4"), "choices": [{"index": 0, "message": None, "finish_reason": None}]},
            "the answer has no choices",
        ),
        ({"error": {"message": "upstream is busy"}}, "the answer has no choices: .*upstream is busy"),
        ("<html>", "the answer has no choices"),
    ],
)
async def test_an_invalid_response(reply: Any, said: str) -> None:
    """As gateways send them, with status 200."""
    with stub_server(lambda _: (200, reply)) as server:
        async with Asker(server.url, "m") as asker:
            answer = await asker.ask(PLAIN, SamplingParams())
    assert answer.error is not None
    assert re.match(said, answer.error)
    assert answer.choices == ()


async def test_a_password_in_the_url_is_sent_and_not_shown() -> None:
    with stub_server(lambda _: (401, error("no"))) as server:
        async with Asker(server.url.replace("//", "//me:secret@"), "m") as asker:
            with pytest.raises(ServerRefusesError) as raised:
                await asker.ask(PLAIN, SamplingParams())
    assert server.requests
    assert str(raised.value) == f"{server.url}: no"


async def test_concurrency_is_limited() -> None:
    lock, running, max_running = threading.Lock(), 0, 0

    def reply(_: dict[str, Any]) -> tuple[int, Any]:
        nonlocal running, max_running
        with lock:
            running += 1
            max_running = max(max_running, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return 200, completion("4")

    with stub_server(reply) as server:
        async with Asker(server.url, "m", concurrency=3) as asker:
            await asyncio.gather(*(asker.ask(PLAIN, SamplingParams()) for _ in range(12)))
    assert max_running == 3


def test_an_answer_is_its_first_choice() -> None:
    answer = Answer((Choice("a", "r", "length"), Choice("b", "", "stop")), 5)
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("a", "r", "length")
    assert Answer(error="no").finish_reason is None


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("forkpoint", [False, True])
async def test_a_server_that_worked_and_is_gone_has_probably_ended(forkpoint: bool) -> None:
    """All our questions have a seed, with which vLLM's CPU build can crash: the message names that."""

    def policies(path: str, _: object) -> tuple[int, object]:
        return (200, {"data": []}) if forkpoint and path == "/policies" else (404, error("Not Found"))

    with stub_server(lambda _: (200, completion("4")), policies) as server:
        worked, never_reached = Asker(server.url, "m", retries=1), Asker(server.url, "m", retries=1)
        assert await worked.is_forkpoint() is forkpoint
        assert (await worked.ask(PLAIN, SamplingParams())).text == "4"
    async with worked, never_reached:
        with pytest.raises(ServerLostError, match="It answered before and now refuses connections") as lost:
            await worked.ask(PLAIN, SamplingParams())
        assert ("CPU Generator does not use offset" in str(lost.value)) is not forkpoint
        with pytest.raises(ServerLostError) as unreachable:
            await never_reached.ask(PLAIN, SamplingParams())
        assert "It answered before" not in str(unreachable.value)
