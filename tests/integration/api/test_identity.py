"""Same seed and same policy give the same tokens, and a policy that never fires gives vLLM's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from tests.integration.puzzles import MESSAGES, summary_of

NEVER = {"rules": [{"when": {"entropy_above": 49.0}, "do": {"suppress": {"connectors": ["reflection"]}}}]}

MAX_TOKENS = 200  # a greedy answer goes round in circles for thousands


def texts(client: openai.OpenAI, policy: Any, **options: Any) -> list[tuple[str | None, str | None]]:
    extra = {"policy": policy} if policy is not None else {}
    body = {"model": "countdown", "messages": MESSAGES, "max_tokens": MAX_TOKENS, **options}
    response = client.chat.completions.create(**body, extra_body=extra)
    return [((choice.message.model_extra or {})["reasoning"], choice.message.content) for choice in response.choices]


@pytest.mark.parametrize("policy", ["nowait", "amplify-reflection", {"rules": [{"do": {"temperature": 1.7}}]}])
def test_same_seed_same_tokens(client: openai.OpenAI, policy: Any) -> None:
    first = [texts(client, policy, temperature=1, seed=seed) for seed in range(4)]
    assert [texts(client, policy, temperature=1, seed=seed) for seed in range(4)] == first
    assert len({str(one) for one in first}) > 1


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": 1, "seed": 11}, {"temperature": 1, "seed": 12, "n": 4}]
)
def test_a_policy_that_never_fires(client: openai.OpenAI, options: dict[str, Any]) -> None:
    assert texts(client, NEVER, **options) == texts(client, None, **options)


def test_several_choices_with_a_stream_are_those_without(client: openai.OpenAI) -> None:
    whole = texts(client, "nowait", temperature=1, seed=21, n=3)
    found = [["", ""] for _ in range(3)]
    for chunk in client.chat.completions.create(
        model="countdown:nowait", messages=MESSAGES, temperature=1, seed=21, n=3, max_tokens=MAX_TOKENS, stream=True
    ):
        for choice in chunk.choices:
            found[choice.index][0] += (choice.delta.model_extra or {}).get("reasoning") or ""
            found[choice.index][1] += choice.delta.content or ""
    assert [tuple(one) for one in found] == [(reasoning, content or "") for reasoning, content in whole]


def test_many_at_once_are_all_reported(client: openai.OpenAI) -> None:
    def generate(seed: int) -> dict[str, Any]:
        policy = ("nowait", "observe", "amplify-conclusion")[seed % 3]
        response = client.chat.completions.create(
            model=f"countdown:{policy}", messages=MESSAGES, temperature=1, seed=seed, max_tokens=200
        )
        assert response.usage is not None
        seen = summary_of(response)
        assert seen["tokens"] == response.usage.completion_tokens
        assert seen["policy"] == policy
        return seen

    with ThreadPoolExecutor(48) as pool:
        assert all(seen["complete"] for seen in pool.map(generate, range(96)))


def test_a_client_that_leaves_leaves_nothing_behind(client: openai.OpenAI, server: Any) -> None:
    aborted, dropped = (
        'forkpoint_requests_total{arm="",finish_reason="abort",policy="nowait"}',
        "forkpoint_telemetry_dropped_total",
    )
    before = server.metrics()
    stream = client.chat.completions.create(
        model="countdown:nowait",
        messages=MESSAGES,
        temperature=1,
        n=4,
        stream=True,
        max_tokens=1500,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    stream.close()
    for _ in range(100):
        samples = server.metrics()
        gauges = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        if sum(value for name, value in samples.items() if name.startswith(gauges)) == 0:
            assert samples[aborted] == before.get(aborted, 0.0) + 4
            assert samples[dropped] == before[dropped], "what nobody waits for is not lost"
            return
    pytest.fail("requests of a client that left still run")
