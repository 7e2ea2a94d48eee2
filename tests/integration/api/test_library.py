"""The library on the real server: every policy and placebo by name, with parameters, and beside structured output."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from forkpoint_policies.catalog import library
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import matches_of
from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import MESSAGES, attempt, summary_of
from tests.processes.forkpoint_server import Server

ON_STATES = [named.policy.name for named in library() if named.policy.changes_states]
NAMES = [named.policy.name for named in library() if named.policy.name not in ON_STATES]
PUZZLE = held_out_puzzles("easy", 8)[7]


def test_every_policy_by_name(client: openai.OpenAI, server: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = dict(
            zip(NAMES, pool.map(lambda name: attempt(client, PUZZLE, name, seed=3, max_tokens=400), NAMES), strict=True)
        )
    for name, one in found.items():
        assert one.summary["policy"] == name
        assert one.summary["complete"], name
        actions = {rule.do.action for named in library() if named.policy.name == name for rule in named.policy.rules}
        if name.startswith("rcpd"):
            actions |= {"observe"}  # its criterion watches the ranks of the marker by rules that observe
        assert set(one.summary["interventions"]) == actions, name
    plain = found["observe"].reasoning
    changed = [name for name, one in found.items() if one.reasoning != plain]
    assert len(changed) > len(NAMES) / 3
    assert {"observe.placebo"}.isdisjoint(changed)
    samples = server.metrics()
    assert all(any(f'policy="{name}"' in sample for sample in samples) for name in NAMES), "each under its own name"


def test_every_way_of_matching(client: openai.OpenAI) -> None:
    """Also by frequency: the embedded model's own text was measured."""
    matches = [(name, match) for name in LIBRARY for match in matches_of(LIBRARY[name].policy) if name in NAMES]
    for name, match in matches:
        values = {"match": match} | ({"strength": 2.0} if match == "dose" else {})
        values |= {"window": 2} if name == "rank-watch" else {}  # shorter than the request
        response = client.chat.completions.create(
            model="countdown",
            messages=MESSAGES,
            max_tokens=3,
            seed=1,
            extra_body={"policy": {"use": f"{name}.placebo", "with": values}},
        )
        assert summary_of(response)["policy"] == f"{name}.placebo"
    assert {match for _, match in matches} == {"probability", "count", "frequency", "positions", "dose"}


@pytest.mark.parametrize("name", ON_STATES)
def test_a_server_without_hooks_says_how_to_have_them(server: Server, name: str) -> None:
    body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 3, "policy": name}
    refused = httpx.post(f"{server.api}/chat/completions", json=body, timeout=60)
    assert refused.status_code == 400
    option = "--recycle-layers" if name.startswith("recycle") else "--hidden-layers"
    assert option in refused.json()["error"]["message"]


def test_parameters_reach_the_model(client: openai.OpenAI) -> None:
    def fired(times: int) -> int:
        policy = {"use": "budget-force", "with": {"times": times, "text": " Wait, try"}}
        one = attempt(client, PUZZLE, policy, seed=3)
        assert one.summary["forced"] >= one.summary["interventions"]["force"]["fired"] * 2, "a text of several tokens"
        assert one.reasoning.count("Wait, try") >= one.summary["interventions"]["force"]["fired"]
        return int(one.summary["interventions"]["force"]["fired"])

    assert fired(1) == 1
    assert 1 < fired(3) <= 3


def test_stop_and_the_end_of_the_reasoning(client: openai.OpenAI) -> None:
    stop = {"rules": [{"when": {"after_token": 5}, "do": {"stop": {}}}]}
    response = client.chat.completions.create(model="countdown", messages=MESSAGES, seed=1, extra_body={"policy": stop})
    assert response.choices[0].finish_reason == "stop"
    assert response.usage is not None
    assert response.usage.completion_tokens == 6
    end = {"rules": [{"when": {"region": "reasoning", "after_token": 4}, "do": {"end_reasoning": {}}}]}
    answered = client.chat.completions.create(model="countdown", messages=MESSAGES, seed=1, extra_body={"policy": end})
    assert summary_of(answered)["reasoning_tokens"] == 4


def test_a_position_in_lengths_of_the_models_reasoning(client: openai.OpenAI, server: Server) -> None:
    """In the mean that the server names: the embedded model's own, unless another test has calibrated it."""
    mean = httpx.get(f"{server.api}/calibration").json()["mean_reasoning_tokens"]
    when = {"region": "reasoning", "after_token": {"reasoning_lengths": 0.02}}
    end = {"rules": [{"when": when, "do": {"end_reasoning": {}}}]}
    answered = client.chat.completions.create(model="countdown", messages=MESSAGES, seed=1, extra_body={"policy": end})
    assert summary_of(answered)["reasoning_tokens"] == round(0.02 * mean)


@pytest.mark.parametrize("policy", ["top-n-sigma", "p-less", "dyna-temperature"])
def test_a_policy_on_the_whole_distribution(client: openai.OpenAI, policy: str) -> None:
    answered = client.chat.completions.create(
        model="countdown", messages=MESSAGES, seed=1, temperature=1.5, max_tokens=200, extra_body={"policy": policy}
    )
    (acted,) = summary_of(answered)["interventions"].values()
    assert 0 < acted["fired"] <= summary_of(answered)["tokens"]
    assert acted["effect"] > 0


FORCING: dict[str, Any] = {"rules": [{"when": {"probability": 0.3}, "do": {"force": {"text": "Wait, no"}}}]}


@pytest.mark.parametrize("policy", [FORCING, "nowait", "entropix", "top-h.placebo"])
def test_structured_output_is_never_broken(client: openai.OpenAI, policy: Any) -> None:
    """What the grammar forbids is not written, and counted."""
    schema = {
        "type": "object",
        "properties": {"x": {"type": "integer"}, "ok": {"type": "boolean"}},
        "required": ["x", "ok"],
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    response = client.chat.completions.create(
        model="countdown",
        messages=MESSAGES,
        n=6,
        seed=0,
        max_tokens=300,
        temperature=1.0,
        response_format=form,
        extra_body={"policy": policy, "chat_template_kwargs": {"enable_thinking": False}},
    )
    for choice in response.choices:
        written = choice.message.content or ""
        if choice.finish_reason == "stop" and written:
            assert set(json.loads(written)) == {"x", "ok"}
        assert "Wait" not in written
    if policy is FORCING:
        assert summary_of(response)["refused"] > 0


WRONG: dict[str, tuple[Any, str, str]] = {
    "unknown parameter": ({"use": "switch-penalty", "with": {"gamma": 1}}, "policy.with.gamma", "alpha, beta"),
    "out of range": ({"use": "switch-penalty", "with": {"alpha": -1}}, "policy.with.alpha", "from 0.01 to 100"),
    "no such match": (
        {"use": "nowait.placebo", "with": {"match": "luck"}},
        "policy.with.match",
        "probability, count, frequency",
    ),
    "a dose without its strength": (
        {"use": "nowait.placebo", "with": {"match": "dose"}},
        "policy.with.strength",
        "`forkpoint ab` finds it",
    ),
    "a window that is never full": (
        {"rules": [{"when": {"confidence_below": 2.0}, "do": {"stop": {}}}]},
        "policy.rules[0].when.confidence_window",
        "is 2048 tokens, which is never full in a request of at most 50",
    ),
    "no placebo": ("nowait.placebo.placebo", "policy", "has no placebo"),
    "contradiction": (
        {"rules": [{"do": {"suppress": {"words": ["wait"]}}}, {"do": {"amplify": {"words": ["wait"], "bias": 1}}}]},
        "policy.rules[1].do.amplify",
        "contradicts rules[0]",
    ),
    "too many rules": ({"rules": [{"do": {"observe": {}}}] * 17}, "policy.rules", "16"),
    "too long a text": (
        {"rules": [{"do": {"force": {"text": "1 2 3 " * 40}}}]},
        "policy.rules[0].do.force.text",
        "64 at most",
    ),
}


@pytest.mark.parametrize(("policy", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_errors_for_wrong_policies_say_what_would_be_right(server: Server, policy: Any, field: str, right: str) -> None:
    body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 50, "policy": policy}
    answer = httpx.post(f"{server.api}/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == field
    assert right in error["message"]


def test_the_schema_is_served(server: Server) -> None:
    schema = httpx.get(f"{server.api}/policies/schema").raise_for_status()
    assert schema.headers["content-type"].startswith("application/schema+json")
    assert {"when", "do"} == set(schema.json()["$defs"]["Rule"]["properties"])


def test_parameters_are_listed(server: Server) -> None:
    listed = {one["name"]: one for one in httpx.get(f"{server.api}/policies").raise_for_status().json()["data"]}
    assert set(listed) == {*NAMES, *ON_STATES}
    assert listed["switch-penalty"]["parameters"]["alpha"]["default"] == 3.0
    assert listed["switch-penalty"]["placebo"] == "switch-penalty.placebo"
    assert listed["nowait.placebo"]["parameters"]["match"]["one_of"] == ["probability", "count", "frequency", "dose"]
