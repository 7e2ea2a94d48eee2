"""The four ways to generate, streaming and not, under a policy requested in each of the three ways."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anthropic
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import BANNED, MESSAGES, attempts, summary_of
from tests.processes.forkpoint_server import Server

PROMPT = "<|im_start|>user\nUse 3, 7, 2 to make 17.<|im_end|>\n<|im_start|>assistant\n<think>"
WAYS: dict[str, dict[str, Any]] = {
    "body": {"model": "countdown", "extra_body": {"policy": "nowait"}},
    "header": {"model": "countdown", "extra_headers": {"X-Forkpoint-Policy": "nowait"}},
    "model": {"model": "countdown:nowait"},
}


@pytest.fixture(scope="session")
def claude(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def check(seen: dict[str, Any], tokens: int | None = None) -> None:
    assert (seen["policy"], seen["complete"], seen["shadow"]) == ("nowait", True, False)
    assert seen["interventions"]["suppress"]["fired"] > 0
    assert 0 <= seen["interventions"]["suppress"]["effect"] <= seen["interventions"]["suppress"]["fired"]
    assert tokens is None or seen["tokens"] == tokens


@pytest.mark.parametrize("way", WAYS)
def test_chat(client: openai.OpenAI, way: str) -> None:
    raw = client.chat.completions.with_raw_response.create(messages=MESSAGES, seed=3, temperature=1, **WAYS[way])
    response = raw.parse()
    assert raw.headers["x-forkpoint-policy"] == "nowait"
    assert response.model == WAYS[way]["model"]  # clients compare the two
    assert summary_of(response)["model"] == "countdown"
    assert response.usage is not None
    check(summary_of(response), response.usage.completion_tokens)
    assert not BANNED.search((response.choices[0].message.model_extra or {})["reasoning"])


@pytest.mark.parametrize("way", WAYS)
def test_chat_in_a_stream(client: openai.OpenAI, way: str) -> None:
    options: Any = {"include_usage": True}
    chunk_stream = client.chat.completions.create(
        messages=MESSAGES, seed=3, temperature=1, stream=True, stream_options=options, **WAYS[way]
    )
    chunks = list(chunk_stream)
    assert [chunk for chunk in chunks if "forkpoint" in (chunk.model_extra or {})] == [chunks[-1]]
    assert chunks[-1].choices == []
    usage = next(chunk.usage for chunk in chunks if chunk.usage is not None)
    check(summary_of(chunks[-1]), usage.completion_tokens)
    deltas = [(chunk.choices[0].delta.model_extra or {}).get("reasoning") or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas)
    assert not BANNED.search("".join(deltas))


def test_streaming_gives_the_same_as_not_streaming(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(messages=MESSAGES, seed=9, temperature=1, **WAYS["body"])
    chunks = list(client.chat.completions.create(messages=MESSAGES, seed=9, temperature=1, stream=True, **WAYS["body"]))
    assert summary_of(whole) == summary_of(chunks[-1])
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == whole.choices[0].message.content
    )


@pytest.mark.parametrize("way", WAYS)
def test_completions(client: openai.OpenAI, way: str) -> None:
    response = client.completions.create(prompt=PROMPT, max_tokens=60, seed=3, temperature=1, **WAYS[way])
    assert response.usage is not None
    check(summary_of(response), response.usage.completion_tokens)
    assert not BANNED.search(response.choices[0].text.partition("</think>")[0])
    chunks = list(
        client.completions.create(prompt=PROMPT, max_tokens=60, seed=3, temperature=1, stream=True, **WAYS[way])
    )
    assert summary_of(chunks[-1]) == summary_of(response)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == response.choices[0].text


def test_several_prompts_and_choices_are_numbered_as_the_response_numbers_them(client: openai.OpenAI) -> None:
    response = client.completions.create(
        model="countdown",
        prompt=[PROMPT, PROMPT],
        n=2,
        max_tokens=40,
        temperature=1,
        extra_body={"policy": "nowait", "forks": True},
    )
    assert [choice.index for choice in response.choices] == [0, 1, 2, 3]
    trace = client.get(f"/forks/{response.id}", cast_to=dict)
    assert [choice["index"] for choice in trace["choices"]] == [0, 1, 2, 3]
    for choice, traced in zip(response.choices, trace["choices"], strict=True):
        assert "".join(traced["tokens"]).replace("</think>", "").replace("<|im_end|>", "") == choice.text
        assert len(traced["entropies"]) == len(traced["token_ids"])


@pytest.mark.parametrize("way", WAYS)
def test_responses(client: openai.OpenAI, way: str) -> None:
    response = client.responses.create(input="Use 3, 7, 2 to make 17.", temperature=1, **WAYS[way])
    check(summary_of(response))
    events = list(client.responses.create(input="Use 3, 7, 2 to make 17.", temperature=1, stream=True, **WAYS[way]))
    assert events[-1].type == "response.completed"
    check(summary_of(events[-1].response))


@pytest.mark.parametrize("way", WAYS)
def test_messages(claude: anthropic.Anthropic, way: str) -> None:
    response = claude.messages.create(messages=MESSAGES, max_tokens=300, **WAYS[way])
    check(summary_of(response))
    events = list(claude.messages.create(messages=MESSAGES, max_tokens=300, stream=True, **WAYS[way]))
    assert events[-1].type == "message_stop"
    check(summary_of(events[-1]))


def test_no_reflection_word_in_any_spelling(client: openai.OpenAI) -> None:
    """Hard puzzles, where the model wants to turn back most."""
    puzzles = held_out_puzzles("hard", 32)
    tried = attempts(client, puzzles, "nowait", max_tokens=400)
    assert [attempt.reasoning for attempt in tried if BANNED.search(attempt.reasoning)] == []
    free = attempts(client, puzzles, max_tokens=400)
    assert sum(bool(BANNED.search(attempt.reasoning)) for attempt in free) > 16


def test_an_inline_policy_of_several_rules(client: openai.OpenAI) -> None:
    policy = {
        "name": "mine",
        "rules": [
            {"when": {"entropy_above": 0.5, "region": "reasoning", "after_token": 3, "before_token": 9},
             "do": {"temperature": 2}},
            {"when": {"top_probability_below": 0.6, "at_most": 2},
             "do": {"amplify": {"connectors": ["conclusion"], "bias": 1.5}}},
            {"when": {"connectors": ["reflection"], "connector_probability_above": 0.1},
             "do": {"suppress": {"words": ["Hmm"]}}},
            {"when": {"entropy_below": 0.01}, "do": {"observe": {}}},
        ],
    }  # fmt: skip
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=2, extra_body={"policy": policy, "forks": True}
    )
    seen = summary_of(response)
    assert seen["policy"] == "mine"
    assert set(seen["interventions"]) == {"temperature", "amplify", "suppress", "observe"}
    assert seen["interventions"]["amplify"]["fired"] <= 2
    assert seen["interventions"]["observe"] == {"fired": seen["interventions"]["observe"]["fired"], "effect": 0.0}
    assert seen["interventions"]["observe"]["fired"] > 10
    for point in seen["fork_points"]:
        assert point["entropy"] > seen["threshold"]
        probabilities = [alternative["probability"] for alternative in point["alternatives"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1.001
    assert len(seen["fork_points"]) == seen["forks"]


def test_forks_without_a_policy(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="countdown", messages=MESSAGES, temperature=1, seed=4)
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=4, extra_body={"forks": True}
    )
    assert "forkpoint" not in (plain.model_extra or {})
    assert response.choices[0].message == plain.choices[0].message
    assert summary_of(response)["policy"] is None
    assert summary_of(response)["fork_points"]


def test_shadow_changes_nothing_and_reports_what_it_would_have_done(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="countdown", messages=MESSAGES, temperature=1, seed=5)
    policy = {"use": "nowait", "shadow": True}
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=5, extra_body={"policy": policy}
    )
    assert response.choices[0].message == plain.choices[0].message
    assert summary_of(response)["shadow"]
    assert summary_of(response)["interventions"]["suppress"]["fired"] > 0


@pytest.mark.parametrize("seed", range(6))
def test_in_shadow_a_text_in_place_of_the_end_of_reasoning_fires_where_the_reasoning_ended(
    client: openai.OpenAI, seed: int
) -> None:
    """As in the arm that acts: where the reasoning would end, and nowhere else."""
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=seed, max_tokens=250 - 40 * seed,
        extra_body={"policy": {"use": "budget-force", "shadow": True}},
    )  # fmt: skip
    ended = response.choices[0].message.content is not None
    assert summary_of(response)["interventions"]["force"]["fired"] == ended


def test_a_reserved_key_of_the_client_is_dropped(client: openai.OpenAI) -> None:
    smuggled = {"vllm_xargs": {"forkpoint": "tcp://127.0.0.1:1"}}
    plain = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=6, extra_body=smuggled
    )
    assert plain.choices[0].finish_reason == "stop"
    assert "forkpoint" not in (plain.model_extra or {})
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=6, extra_body={**smuggled, "policy": "nowait"}
    )
    check(summary_of(response))


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63)])
def test_the_largest_seeds(client: openai.OpenAI, seed: int) -> None:
    """The second choice's seed is one more than what 64 bits hold."""
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, n=2, seed=seed, max_tokens=4, extra_body={"policy": "nowait.placebo"}
    )
    assert [choice.index for choice in response.choices] == [0, 1]
    assert summary_of(response)["complete"]


def test_an_id_that_two_requests_chose(client: openai.OpenAI) -> None:
    """Clients may name their requests, and two at once may have the same name."""

    def generate(seed: int) -> Any:
        return client.chat.completions.create(
            model="countdown",
            messages=MESSAGES,
            n=2,
            seed=seed,
            max_tokens=60,
            extra_headers={"X-Request-Id": "mine"},
            extra_body={"policy": "observe"},
        )

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(generate, range(6)))
    assert all(len(one.choices) == 2 and summary_of(one)["tokens"] == one.usage.completion_tokens for one in answers)
    assert len({one.choices[0].message.reasoning for one in answers}) > 1
    trace = client.get(f"/forks/{answers[0].id}", cast_to=dict)
    assert len(trace["choices"]) == 2
