"""Our routes, and what we add to vLLM's."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx
import openai
import pytest

from forkpoint_clients import AsyncForkpoint, Forkpoint, forkpoint_of
from tests.integration.puzzles import MESSAGES, summary_of
from tests.processes.forkpoint_server import Server


def test_models_through_an_sdk(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["countdown"]
    assert client.models.retrieve("countdown:amplify-reflection").id == "countdown:amplify-reflection"


def test_policies(server: Server) -> None:
    listed = httpx.get(f"{server.api}/policies").json()
    assert listed["object"] == "list"
    nowait = next(policy for policy in listed["data"] if policy["name"] == "nowait")
    assert nowait["source"] == "arXiv:2506.08343"
    assert nowait["builtin"]
    assert nowait["caution"]
    assert httpx.get(f"{server.api}/policies/nowait").json() == nowait
    missing = httpx.get(f"{server.api}/policies/nope")
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "NotFoundError"


def test_connectors(server: Server) -> None:
    families = {family["name"]: family for family in httpx.get(f"{server.api}/policies/connectors").json()["data"]}
    assert {"reflection", "alternative", "conclusion", "execution"} <= set(families)
    assert {" Wait", "Wait"} <= set(families["reflection"]["tokens"])
    assert len(families["reflection"]["tokens"]) == len(families["reflection"]["token_ids"])


def test_validate_says_what_a_policy_would_do(server: Server) -> None:
    policy = {
        "rules": [
            {"do": {"temperature": 1.5}},
            {"when": {"region": "reasoning"}, "do": {"suppress": {"words": ["therefore"]}}},
            {"do": {"amplify": {"words": ["double-check"], "bias": 2}}},
        ]
    }
    said = httpx.post(f"{server.api}/policies/validate", json=policy).raise_for_status().json()
    assert [(rule["rule"], rule["action"]) for rule in said["rules"]] == [(1, "mask"), (2, "bias"), (0, "temperature")]
    assert {token["token"] for token in said["rules"][0]["tokens"] if token["in_every_context"]} == {" Therefore"}
    assert any("double-check" in warning for warning in said["warnings"])
    wrong = httpx.post(f"{server.api}/policies/validate", json={"rules": [{"do": {"temperature": -1}}]})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "policy.rules[0].do.temperature"
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{server.api}/policies/validate", content=b"{", headers=headers).status_code == 400


def test_metrics_has_vllms_and_ours_and_they_move(server: Server, client: openai.OpenAI) -> None:
    before = server.metrics()
    assert any(name.startswith("vllm:") for name in before)
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=1, extra_body={"policy": "nowait"}
    )
    after = server.metrics()

    def moved(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    seen = summary_of(response)
    assert moved('forkpoint_requests_total{arm="",finish_reason="stop",policy="nowait"}') == 1
    assert moved('forkpoint_tokens_total{policy="nowait",role="planning"}') == seen["forks"]
    assert moved('forkpoint_tokens_total{policy="nowait",role="execution"}') == seen["tokens"] - seen["forks"]
    suppressed = seen["interventions"]["suppress"]
    assert moved('forkpoint_interventions_total{action="suppress",family="",policy="nowait"}') == suppressed["fired"]
    effect = moved('forkpoint_intervention_effect_total{action="suppress",policy="nowait"}')
    assert effect == pytest.approx(suppressed["effect"], abs=1e-3)
    assert moved('forkpoint_token_entropy_nats_count{policy="nowait",role="planning"}') == seen["forks"]
    assert moved('forkpoint_reasoning_tokens_count{policy="nowait"}') == 1
    families = {
        family["name"]: family["token_ids"] for family in client.get("/policies/connectors", cast_to=dict)["data"]
    }
    (choice,) = client.get(f"/forks/{response.id}", cast_to=dict)["choices"]
    for family in ("reflection", "conclusion"):  # no word is in both
        said = sum(token in families[family] for token in choice["token_ids"])
        assert moved(f'forkpoint_connectors_total{{family="{family}",policy="nowait"}}') == said
    assert said  # "Therefore"
    assert moved("forkpoint_step_seconds_count") >= seen["tokens"]
    assert moved("forkpoint_telemetry_dropped_total") == 0


@pytest.mark.parametrize(
    ("labels", "label"),
    [({}, "none"), ({"forks": True}, "none"), ({"policy": {"use": "nowait", "shadow": True}}, "nowait (shadow)")],
    ids=["nothing", "forks", "shadow"],
)
def test_what_has_no_policy_is_not_counted_as_one(
    server: Server, client: openai.OpenAI, labels: dict[str, Any], label: str
) -> None:
    name = f'forkpoint_requests_total{{arm="",finish_reason="length",policy="{label}"}}'
    before = server.metrics().get(name, 0.0)
    client.completions.create(model="countdown", prompt="x", max_tokens=1, extra_body={"ignore_eos": True, **labels})
    assert server.metrics()[name] == before + 1


def test_a_trace_by_its_response(client: openai.OpenAI) -> None:
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, extra_body={"policy": "observe"}
    )
    trace = client.get(f"/forks/{response.id}", cast_to=dict)
    assert response.usage is not None
    assert len(trace["choices"][0]["entropies"]) == response.usage.completion_tokens
    assert trace["forkpoint"]["mean_entropy"] == summary_of(response)["mean_entropy"]
    with pytest.raises(openai.NotFoundError, match="there is no trace"):
        client.get("/forks/nope", cast_to=dict)


async def test_our_clients(server: Server) -> None:
    with Forkpoint(base_url=server.api, policy="nowait") as client:
        assert forkpoint_of(client.chat.completions.create(model="countdown", messages=MESSAGES)).policy == "nowait"
        assert "nowait" in [policy.name for policy in client.policies.list()]
        assert client.policies.get("nowait").placebo == "nowait.placebo"
        assert client.policies.validate("nowait").valid
        with pytest.raises(openai.NotFoundError, match="there is no policy"):
            client.policies.get("nope")
    async with AsyncForkpoint(base_url=server.api) as other:
        response = await other.chat.completions.create(
            model="countdown:observe", messages=MESSAGES, temperature=1, extra_body={"forks": True}
        )
        trace = await other.forks.get(response.id)
        assert trace.id == response.id
        shown = trace._repr_html_().replace(">answer</p>", "></p>")  # the heading of the answer
        assert "".join(trace.choices[0].tokens) in unescape(re.sub("<[^>]*>", "", shown))
        assert trace.fork_points[0].alternatives[0].probability > 0
        assert (await other.policies.validate({"rules": []})).rules == []
        assert len((await other.policies.list()).data) >= 4
