"""`POST /v1/forks`: a text has the entropies of its generation, and its forks are verified by resampling."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.processes.forkpoint_server import Server

PUZZLES = [puzzle.prompt for puzzle in held_out_puzzles("hard", 4)]
TOLERANCE_NATS = 2e-3
"""In float32: a token is computed with others, or in another batch, than when it was generated."""

Answer = tuple[dict[str, Any], dict[str, Any]]
"""The assistant's message, and the trace of its generation."""
SECONDS = 120
LEFT_SECONDS = 30


def post(server: Server, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{server.api}/forks", json=body, timeout=SECONDS)


def measured(server: Server, body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = post(server, body).raise_for_status().json()
    return found


def generated(client: openai.OpenAI, puzzle: str, **options: Any) -> Answer:
    """The assistant's message, and the trace of its generation."""
    response = client.chat.completions.create(
        model="countdown", messages=[{"role": "user", "content": puzzle}], temperature=1, extra_body={"forks": True},
        **{"seed": 1, "max_tokens": 600, **options},
    )  # fmt: skip
    message = response.choices[0].message
    trace: dict[str, Any] = client.get(f"/forks/{response.id}", cast_to=dict)
    reasoning = (message.model_extra or {}).get("reasoning")
    return {"role": "assistant", "content": message.content, "reasoning": reasoning}, trace


@pytest.fixture(scope="module")
def puzzle(client: openai.OpenAI) -> Answer:
    """The answer to the first puzzle, generated once: the assistant's message, and the trace."""
    return generated(client, PUZZLES[0])


def same(found: dict[str, Any], trace: dict[str, Any], tolerance: float = TOLERANCE_NATS) -> None:
    """A measured text and a generated one have the same tokens, entropies and regions."""
    one, other = found["choices"][0], trace["choices"][0]
    assert one["token_ids"] == other["token_ids"]
    assert one["positions"] == other["positions"]
    assert one["entropies"] == pytest.approx(other["entropies"], abs=tolerance)
    assert one["in_reasoning"] == other["in_reasoning"]


@pytest.mark.parametrize("number", range(len(PUZZLES)))
def test_a_text_has_the_entropies_that_it_had_when_it_was_generated(
    server: Server, client: openai.OpenAI, number: int
) -> None:
    message, trace = generated(client, PUZZLES[number])
    messages = [{"role": "user", "content": PUZZLES[number]}, message]
    found = measured(server, {"model": "countdown", "messages": messages})
    same(found, trace)
    assert found["object"] == "trace"
    assert found["forkpoint"]["complete"]
    assert found["cost"]["tokens"] == len(trace["choices"][0]["tokens"])
    assert [point["index"] for point in found["fork_points"]] == [point["index"] for point in trace["fork_points"]]
    assert all(point["alternatives"] for point in found["fork_points"])
    assert client.get(f"/forks/{found['id']}", cast_to=dict) == found
    assert found["id"].startswith("forks-")


def test_prompt_and_completion_as_texts_and_as_tokens(server: Server, puzzle: Answer) -> None:
    message, trace = puzzle
    chat = {"messages": [{"role": "user", "content": PUZZLES[0]}]}
    prompt = httpx.post(f"{server.url}/tokenize", json=chat).raise_for_status().json()["tokens"]
    same(measured(server, {"prompt": prompt, "completion": trace["choices"][0]["token_ids"]}), trace)
    text = f"<|im_start|>user\n{PUZZLES[0]}<|im_end|>\n<|im_start|>assistant\n<think>"
    completion = f"{message['reasoning']}</think>{message['content']}<|im_end|>"
    same(measured(server, {"prompt": text, "completion": completion}), trace)


def test_the_generation_prompt_is_not_doubled(server: Server, puzzle: Answer) -> None:
    """The embedded model's ends in the marker that the content may start with."""
    message, trace = puzzle
    written = f"{message['reasoning']}</think>{message['content']}"
    for content in (f"<think>{written}", written, [{"type": "text", "text": f"<think>{written}"}]):
        messages = [{"role": "user", "content": PUZZLES[0]}, {"role": "assistant", "content": content}]
        same(measured(server, {"messages": messages}), trace)


def test_what_other_apis_returned_is_measured_like_the_text_in_it(server: Server) -> None:
    """Chat clients store the parts of other APIs; several are lines of one text, as chat renders them."""

    def token_ids(content: Any, **more: Any) -> list[int]:
        messages = [{"role": "user", "content": PUZZLES[0]}, {"role": "assistant", "content": content, **more}]
        found: list[int] = measured(server, {"messages": messages})["choices"][0]["token_ids"]
        return found

    expected = token_ids("3 + 4\n= 7")
    for first in (
        {"type": "output_text", "text": "3 + 4", "annotations": []},
        {"type": "refusal", "refusal": "3 + 4"},
        {"type": "input_text", "text": "3 + 4"},
        {"type": "thinking", "thinking": "3 + 4", "closed": True},
        "3 + 4",
    ):
        assert token_ids([first, {"type": "text", "text": "= 7"}]) == expected, first
    assert token_ids("7", reasoning_content="so") == token_ids("7", reasoning="so") != token_ids("7")


def test_a_reasoning_that_was_cut_off(server: Server, client: openai.OpenAI) -> None:
    message, trace = generated(client, PUZZLES[0], max_tokens=20)
    assert message["content"] is None
    same(measured(server, {"messages": [{"role": "user", "content": PUZZLES[0]}, message]}), trace)


def test_forks_are_verified_by_what_comes_of_them(server: Server, client: openai.OpenAI) -> None:
    """One of the forks of a puzzle's text decides between two answers, for any continuation."""
    message, _ = generated(client, "Use 3, 7, 2, 11 to make 17.")
    messages = [{"role": "user", "content": "Use 3, 7, 2, 11 to make 17."}, message]
    body = {"messages": messages, "verify": 12, "most_forks": 6, "seed": 5, "max_tokens": 120}
    found = measured(server, body)
    tried = [point for point in found["fork_points"] if point["verified"]]
    settings = found["verification"]
    tried = [point for point in tried if len(point["verified"]["outcomes"]) == 2]
    assert 2 <= settings["tried"] == len(tried) <= min(6, len(found["fork_points"]))
    assert settings["verified"] == sum(point["verified"]["verified"] for point in tried) >= 1
    for point in tried:
        assert point["alternatives"][1]["probability"] >= settings["min_probability"] == 0.05
        for way in point["verified"]["outcomes"]:
            assert sum(way["answers"].values()) + way["truncated"] + way["unanswered"] == 12
        assert [way["token"] for way in point["verified"]["outcomes"]] == [
            one["token"] for one in point["alternatives"][:2]
        ]
        assert point["verified"]["verified"] == (point["verified"]["q"] <= settings["fdr"])
    assert settings["cost"]["requests"] == 12 * 2 * len(tried)
    assert found["cost"]["tokens"] == settings["cost"]["tokens"] + len(found["choices"][0]["tokens"])
    again = measured(server, body)
    assert [point["verified"] for point in again["fork_points"]] == [
        point["verified"] for point in found["fork_points"]
    ]


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def test_progress_streams_and_the_result_comes_last(server: Server, client: openai.OpenAI) -> None:
    message, _ = generated(client, PUZZLES[1], max_tokens=200)
    body = {
        "messages": [{"role": "user", "content": PUZZLES[1]}, message], "verify": 6, "most_forks": 3, "max_tokens": 40,
        "stream": True,
    }  # fmt: skip
    with httpx.stream("POST", f"{server.api}/forks", json=body, timeout=SECONDS) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *progress, last = events(response)
    assert last["object"] == "trace"
    assert {one["id"] for one in progress} == {last["id"]}
    for phase in ("measuring", "verifying"):
        done = [one["done"] for one in progress if one["phase"] == phase]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, next(one["total"] for one in progress if one["phase"] == phase))
    assert [one["phase"] for one in progress] == sorted(one["phase"] for one in progress)
    assert last == client.get(f"/forks/{last['id']}", cast_to=dict)


def running(server: Server) -> float:
    return sum(value for name, value in server.metrics().items() if name.startswith("vllm:num_requests_"))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_all_of_it(server: Server, client: openai.OpenAI, stream: bool) -> None:
    message, trace = generated(client, PUZZLES[1], max_tokens=300)
    messages = [{"role": "user", "content": PUZZLES[1]}, message]
    body = {"messages": messages, "verify": 100, "most_forks": 20, "max_tokens": 1500, "stream": stream}
    if stream:
        with httpx.stream("POST", f"{server.api}/forks", json=body, timeout=SECONDS) as response:
            verifying = (one for one in events(response) if one["phase"] == "verifying" and one["done"])
            assert next(verifying)["total"] == 100 * 2 * min(20, len(trace["fork_points"]))
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.api}/forks", json=body, timeout=httpx.Timeout(SECONDS, read=4))
    deadline = time.monotonic() + LEFT_SECONDS
    while running(server) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert running(server) == 0
    assert measured(server, {"messages": messages})["forkpoint"]["complete"], "and the next one finds room"


USER, TEXT = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"messages": [USER]}, "messages", "the last one is the user's"),
        ({"messages": []}, "messages", "the last one is missing"),
        ({"messages": [TEXT]}, "messages", "holds nothing before"),
        ({"messages": [USER, {**TEXT, "content": ""}]}, "messages", "empty text"),
        (
            {"messages": [USER, {**TEXT, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[1].content",
            "text",
        ),
        (
            {"messages": [USER, {**TEXT, "content": 5}]},
            "messages[1].content",
            "must be a text or a list of parts, not int",
        ),
        ({"messages": [USER, {**TEXT, "content": {"a": 1}}]}, "messages[1].content", "not dict"),
        ({"prompt": "x", "completion": "y" * 500_000}, "completion", "bytes, and the model's context holds"),
        ({"messages": [USER, {**TEXT, "content": "y" * 500_000}]}, "messages", "bytes, and the model's context holds"),
        ({"messages": [USER, TEXT], "prompt": "x"}, "messages", "two ways"),
        ({"prompt": "x", "completion": ""}, "completion", "empty text"),
        ({"prompt": "", "completion": "x"}, "prompt", "is empty"),
        ({"prompt": [1], "completion": [99999]}, "completion", "holds 99999"),
        ({"prompt": "x", "completion": "so " * 3000}, "completion", "and the model's context is 2048 tokens"),
        ({"prompt": "x", "completion": "y", "verify": 3}, "verify", "6 is the fewest"),
        ({"prompt": "x", "completion": "y", "policy": "nowait"}, "policy", "is not supported on /v1/forks"),
        (
            {"prompt": "x", "completion": "y", "model": "countdown:nowait"},
            "model",
            "is not supported on /v1/forks",
        ),
        ([], "body", "must be an object"),
    ],
)
def test_wrong_requests(server: Server, body: Any, param: str, said: str) -> None:
    answer = httpx.post(f"{server.api}/forks", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert said in answer.json()["error"]["message"]


def test_an_unknown_model_is_what_vllm_says_it_is(server: Server) -> None:
    for body in ({"messages": [USER, TEXT]}, {"prompt": "x", "completion": "y"}, {"prompt": [1], "completion": "y"}):
        answer = post(server, {"model": "gpt", **body})
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFoundError")


def test_an_unknown_trace(server: Server) -> None:
    assert httpx.get(f"{server.api}/forks/forks-nope").status_code == 404


def test_any_positions_can_be_tried(server: Server, puzzle: Answer) -> None:
    """Where the model is sure as well as where it is not; with one possible token there is nothing to compare."""
    message, trace = puzzle
    entropies = trace["choices"][0]["entropies"]
    sure, unsure = entropies.index(min(entropies[:60])), entropies.index(max(entropies[:60]))
    messages = [{"role": "user", "content": PUZZLES[0]}, message]
    body = {"messages": messages, "verify": 6, "positions": [unsure, sure], "seed": 5, "max_tokens": 60}
    usual = measured(server, body)["verification"]
    (at_sure,) = [place["verified"] for place in usual["positions"] if place["index"] == sure]
    assert (len(at_sure["outcomes"]), at_sure["p"], at_sure["verified"]) == (1, 1, False)
    assert (usual["tried"], usual["cost"]["requests"]) == (1, 12)
    found = measured(server, {**body, "min_probability": 0})["verification"]
    assert [place["index"] for place in found["positions"]] == sorted([sure, unsure])
    for place in found["positions"]:
        assert place["token"] == trace["choices"][0]["tokens"][place["index"]]
        assert place["entropy"] == pytest.approx(entropies[place["index"]], abs=TOLERANCE_NATS)
        assert [way["token"] for way in place["verified"]["outcomes"]] == [
            one["token"] for one in place["alternatives"][:2]
        ]
        assert 1 >= place["alternatives"][0]["probability"] >= place["alternatives"][1]["probability"] >= 0
    assert found["tried"] == 2
    refused = post(server, {**body, "positions": [len(entropies)]})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "positions"


def test_a_text_as_long_as_the_models_context(server: Server) -> None:
    found = measured(server, {"prompt": [1] * 10, "completion": [5] * 2038})
    assert len(found["choices"][0]["entropies"]) == 2038
    assert found["forkpoint"]["complete"]


def test_the_default_policy_of_a_client_says_nothing_of_a_text(server: Server) -> None:
    headers = {"X-Forkpoint-Policy": "nowait"}
    answer = httpx.post(
        f"{server.api}/forks", json={"prompt": "x", "completion": "y"}, headers=headers, timeout=SECONDS
    )
    assert answer.json()["forkpoint"]["policy"] is None
