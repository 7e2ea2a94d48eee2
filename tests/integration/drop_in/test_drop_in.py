"""Forkpoint answers as stock vLLM does: the same calls to both, field by field and token by token."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from benchmarks.servers import both
from forkpoint_server.cli import DEMO_ARGUMENTS

from . import sdks
from .calls import CALLS, Call
from .comparison import Names, send, streamed

ARGUMENTS = (
    "--model", *DEMO_ARGUMENTS, "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    "--enable-server-load-tracking", "--enable-request-id-headers", "--enable-tokenizer-info-endpoint",
    "--enable-scale-out",
)  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of stock vLLM and of Forkpoint, which run with the same arguments."""
    folder = tmp_path_factory.mktemp("both")
    with both(folder, ARGUMENTS, (*ARGUMENTS, "--database-url", f"sqlite:///{folder / 'own.sqlite3'}")) as (stock, own):
        yield stock.url, own.url


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_without_a_policy(servers: tuple[str, str], call: Call) -> None:
    stock, own = servers
    answered = send(own, call)
    assert answered == send(stock, call)
    assert not answered.has_forkpoint


OBSERVED = [call for call in CALLS if call.takes_policy]


@pytest.mark.soak
@pytest.mark.parametrize("call", OBSERVED, ids=[call.name for call in OBSERVED])
def test_with_observe(servers: tuple[str, str], call: Call) -> None:
    stock, own = servers
    answered = send(own, call, "observe")
    assert answered == send(stock, call)
    assert answered.has_forkpoint == (answered.status == 200)


STREAMED = [call for call in OBSERVED if isinstance(call.body, dict) and call.body.get("stream")]


@pytest.mark.soak
@pytest.mark.parametrize("call", STREAMED, ids=[call.name for call in STREAMED])
def test_a_stream_whose_policy_a_gateway_chose(servers: tuple[str, str], call: Call) -> None:
    """The same chunks in the same order, with our object as a field of one of them."""
    stock, own = servers
    answered = send(own, call, "observe", by_header=True)
    assert answered == send(stock, call)
    assert answered.has_forkpoint == (answered.status == 200)


@pytest.mark.soak
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the SDKs' own sockets
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")  # LiteLLM's
@pytest.mark.parametrize("name", sdks.CALLS)
def test_what_an_sdk_sees(servers: tuple[str, str], name: str) -> None:
    stock, own = servers
    assert sdks.CALLS[name](own) == sdks.CALLS[name](stock)


def called(answer: Any) -> list[str]:
    """The tools that an answer of any route calls; the arguments must be an object each."""
    calls = [
        *((call["function"]["name"], json.loads(call["function"]["arguments"]))
          for choice in answer.get("choices", []) for call in choice["message"].get("tool_calls", [])),
        *((one["name"], json.loads(one["arguments"]))
          for one in answer.get("output", []) if one["type"] == "function_call"),
        *((one["name"], one["input"]) for one in answer.get("content", []) if one["type"] == "tool_use"),
    ]  # fmt: skip
    assert all(isinstance(arguments, dict) for _, arguments in calls)
    return [name for name, _ in calls]


def pairs(answer: Any) -> bool:
    """Whether each choice matches the schema."""
    found = [json.loads(choice["message"]["content"]) for choice in answer["choices"]]
    return bool(found) and all({type(one["left"]), type(one["right"])} == {int} and len(one) == 2 for one in found)


def written(pattern: str) -> Callable[[Any], bool]:
    return lambda answer: bool(re.fullmatch(pattern, answer["choices"][0]["message"]["content"]))


SHOWS: Mapping[str, Callable[[Any], object]] = {
    "chat, regex": written(r"[0-9]{2} [-+*] [0-9]"),
    "chat, choice": written("yes|no|perhaps"),
    "chat, grammar": written("2*1"),
    "chat, json": pairs,
    "chat, structural_tag": pairs,
    "chat, json_schema": pairs,
    "chat, json_schema, seeded": pairs,
    "chat, tools, auto, none called": lambda answer: called(answer) == [],
    "chat, tools, auto": lambda answer: called(answer) == ["solve"],
    "chat, tools, parallel": lambda answer: called(answer) == ["solve", "solve"],
    "chat, tools, one of two": lambda answer: called(answer) == ["solve"],
    "chat, tools, required": called,
    "chat, tools, required, seeded": called,
    "chat, tools, named": lambda answer: called(answer) == ["solve"],
    "chat, stop": lambda answer: answer["choices"][0]["stop_reason"] == "=",
    "chat, stop_token_ids": lambda answer: answer["choices"][0]["stop_reason"] == 262,
    "chat, min_tokens": lambda answer: answer["usage"]["completion_tokens"] >= 60,
    "chat, three choices": lambda answer: len({choice["message"]["reasoning"] for choice in answer["choices"]}) == 3,
    "chat, logprobs": lambda answer: (
        {len(one["top_logprobs"]) for one in answer["choices"][0]["logprobs"]["content"]} == {5}
    ),
    "responses, tools": lambda answer: called(answer) == ["solve"],
}
"""What the answers to some calls must have, so that they compare what they are there for."""


@pytest.mark.soak
@pytest.mark.parametrize("name", SHOWS)
def test_what_a_call_is_there_for(servers: tuple[str, str], name: str) -> None:
    """Of Forkpoint's answer; that stock vLLM's is the same is tested above."""
    (call,) = (call for call in CALLS if call.name == name)
    answered = send(servers[1], call)
    assert answered.status == 200
    assert SHOWS[name](answered.body)


def test_calls_have_names_of_their_own() -> None:
    assert len({call.name for call in CALLS}) == len(CALLS)


def chunk(
    index: int, text: str | None = None, *, name: str = "chatcmpl-0123456789abcdef", tokens: int | None = None,
    **fields: Any,
) -> str:  # fmt: skip
    """An event of a stream of a chat; with `tokens`, of one that asks for usage in every chunk."""
    delta = {"role": "assistant", "content": ""} if text is None else {"content": text}
    choice = {"index": index, "delta": delta, "finish_reason": None, **fields}
    usage = {} if tokens is None else {"usage": {"prompt_tokens": 7, "completion_tokens": tokens}}
    return f"data: {json.dumps({'id': name, 'created': 5, 'choices': [choice], **usage})}\n\n"


END = (
    'data: {"id": "chatcmpl-0123456789abcdef", "created": 5, "choices": [], "usage": {"total_tokens": 9}}\n\n'
    "data: [DONE]\n\n"
)
PLAIN = (
    chunk(0),
    chunk(1),
    chunk(0, "a"),
    chunk(1, "x"),
    chunk(0, "b", finish_reason="stop"),
    chunk(1, "y", finish_reason="stop"),
    END,
)
SAME = {
    "cut elsewhere": (chunk(0), chunk(1), chunk(0, "ab"), chunk(0, "", finish_reason="stop"), chunk(1, "x"),
                      chunk(1, "y", finish_reason="stop"), END),
    "another choice first": (chunk(0), chunk(1), chunk(1, "x"), chunk(0, "a"), chunk(1, "y", finish_reason="stop"),
                             chunk(0, "b", finish_reason="stop"), END),
    "another name": tuple(one.replace("0123456789abcdef", "fedcba9876543210") for one in PLAIN),
}  # fmt: skip
OTHER = {
    "another text": (*PLAIN[:3], chunk(1, "z"), *PLAIN[4:]),
    "pieces in another order": (
        chunk(0),
        chunk(1),
        chunk(0, "b"),
        chunk(1, "x"),
        chunk(0, "a", finish_reason="stop"),
        *PLAIN[5:],
    ),
    "a role late": (chunk(0), chunk(0, "a"), chunk(0, "b", finish_reason="stop"), chunk(1), *PLAIN[3:4], *PLAIN[5:]),
    "roles in another order": (chunk(1), chunk(0), *PLAIN[2:]),
    "text after the end": (*PLAIN[:5], chunk(0, ""), *PLAIN[5:]),
    "usage before the end": (*PLAIN[:5], END.partition("data: [DONE]")[0], PLAIN[5], "data: [DONE]\n\n"),
    "two ends": (*PLAIN[:5], PLAIN[4], *PLAIN[5:]),
    "no end": PLAIN[:-1],
    "two names": (*PLAIN[:2], chunk(0, "a", name="chatcmpl-fedcba9876543210"), *PLAIN[3:]),
    "a name of another length": tuple(one.replace("0123456789abcdef", "0123456789") for one in PLAIN),
    "one more field": (*PLAIN[:3], chunk(1, "x", stop_reason=None), *PLAIN[4:]),
    "our object": (*PLAIN[:-1], 'data: {"choices": [], "forkpoint": {}}\n\n', END),
}


@pytest.mark.parametrize("name", [*SAME, *OTHER])
def test_what_the_comparison_of_streams_sees(name: str) -> None:
    events = SAME[name] if name in SAME else OTHER[name]
    assert (streamed("".join(events), Names()) == streamed("".join(PLAIN), Names())) == (name in SAME)


@pytest.mark.parametrize(("tokens", "same"), [(2, True), (3, False)])
def test_usage_in_every_chunk_may_come_with_the_end_alone(tokens: int, same: bool) -> None:
    role, end = chunk(0, tokens=0), chunk(0, "b", tokens=2, finish_reason="stop")
    together = streamed("".join((role, chunk(0, "ab", tokens=tokens, finish_reason="stop"), END)), Names())
    apart = streamed("".join((role, chunk(0, "a", tokens=1), end, END)), Names())
    assert (together == apart) == same
