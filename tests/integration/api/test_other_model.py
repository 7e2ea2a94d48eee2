"""`forkpoint serve SOME/MODEL --any-vllm-argument`, a key, a default policy and policies from files."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import httpx
import openai
import pytest

from forkpoint_clients.cli.calibrate import main as calibrate
from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS
from tests.integration.puzzles import summary_of
from tests.processes.forkpoint_server import API_KEY, Server


@pytest.fixture(scope="module")
def other(other_server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=other_server.api, api_key=API_KEY, max_retries=0) as client:
        yield client


def test_serves_that_model_with_vllms_arguments(other: openai.OpenAI) -> None:
    models: list[Any] = list(other.models.list())
    assert models[0].id == "random"
    assert models[0].max_model_len == 256
    assert [model.id for model in models] == ["random", "random:calm"]  # --model-aliases


def test_the_servers_default_policy(other: openai.OpenAI) -> None:
    response = other.completions.create(model="random", prompt="Use 3", max_tokens=16, extra_body={"ignore_eos": True})
    assert summary_of(response)["policy"] == "calm"
    assert summary_of(response)["forks"] == 16  # random weights: every position is uncertain
    assert (
        summary_of(response)["interventions"]["suppress"]["fired"] == 16
    )  # without a reasoning parser all counts as reasoning
    assert (
        summary_of(other.completions.create(model="random:observe", prompt="Use 3", max_tokens=4))["policy"]
        == "observe"
    )


def test_the_default_gives_way(other: openai.OpenAI) -> None:
    """To `none`, and to beam search, which can have no policy."""
    for extra in ({"policy": "none"}, {"use_beam_search": True, "n": 2}):
        response = other.completions.create(
            model="random", prompt="Use 3", max_tokens=2, temperature=0, extra_body=extra
        )
        assert "forkpoint" not in (response.model_extra or {})
        assert response.choices


def test_seeded_prompts_that_exceed_a_batch(other: openai.OpenAI) -> None:
    """vLLM's CPU build ends at a seeded request whose prompt it computes in pieces; a batch holds 2,048 tokens here."""

    def complete(number: int) -> int:
        words = Random(number).choices(range(100, 500), k=250)
        response = other.completions.create(
            model="random", prompt=words, max_tokens=4, seed=number, extra_body={"ignore_eos": True}
        )
        assert response.usage is not None
        return response.usage.completion_tokens

    with ThreadPoolExecutor(24) as pool:
        for _ in range(2):
            assert list(pool.map(complete, range(24))) == [4] * 24


def test_it_warns_of_a_missing_reasoning_parser(other: openai.OpenAI) -> None:
    said: Any = other.post("/policies/validate", body={"policy": "calm"}, cast_to=dict)
    assert any("--reasoning-parser" in warning for warning in said["warnings"])


def test_a_text_that_its_tokenizer_does_not_keep_is_forced_token_by_token(other: openai.OpenAI) -> None:
    """This model's tokenizer writes lower case only, but its vocabulary has the capitals."""
    for text in ("Wait", "wait"):
        policy = {"rules": [{"when": {"before_token": 1}, "do": {"force": {"text": text}}}]}
        answer = other.completions.create(model="random", prompt="Use 3", max_tokens=4, extra_body={"policy": policy})
        assert answer.choices[0].text.startswith(text)


@pytest.mark.parametrize(
    "path", ["/v1/policies", "/v1/policies/connectors", "/v1/policies/calm", "/v1/forks/x", "/v1/models"]
)
def test_the_key_guards_our_routes(other_server: Server, path: str) -> None:
    assert httpx.get(f"{other_server.url}{path}").status_code == 401
    allowed = httpx.get(f"{other_server.url}{path}", headers={"Authorization": f"Bearer {API_KEY}"})
    assert allowed.status_code in (200, 404)


def test_the_key_is_checked_before_the_policy_is_read(other_server: Server) -> None:
    assert httpx.post(f"{other_server.api}/completions", json={"model": "random", "policy": "nope"}).status_code == 401
    assert httpx.post(f"{other_server.api}/policies/validate", json={}).status_code == 401


def test_a_model_without_a_calibration_is_warned_of(other_server: Server) -> None:
    health = httpx.get(f"{other_server.url}/health")
    assert (health.status_code, health.content) == (200, b"")
    assert "not calibrated; 0.672 nats is used" in health.headers["X-Forkpoint-Warning"]
    detailed = httpx.get(f"{other_server.url}/health?details").json()
    assert detailed == {"status": "healthy", "warnings": [health.headers["X-Forkpoint-Warning"]]}
    assert "not calibrated; 0.672 nats is used" in other_server.log.read_text()
    shown = httpx.get(f"{other_server.api}/calibration", headers={"Authorization": f"Bearer {API_KEY}"}).json()
    assert (shown["calibrated"], shown["fork_threshold"]) == (False, DEFAULT_FORK_THRESHOLD_NATS)


def test_texts_without_a_reasoning_parser(other_server: Server) -> None:
    """`POST /v1/forks` with the server's key. The template takes no reasoning, and nothing says where one would end."""
    user, text = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}
    body = {"messages": [user, text]}
    assert httpx.post(f"{other_server.api}/forks", json=body, timeout=120).status_code == 401
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx.Client(headers=headers, base_url=other_server.api, timeout=120) as client:
        found = client.post("/forks", json=body).raise_for_status().json()
        wrong = client.post("/forks", json={"messages": [user, {**text, "reasoning": "z"}]})
    assert found["forkpoint"]["threshold"] == DEFAULT_FORK_THRESHOLD_NATS
    assert wrong.status_code == 400
    assert "--reasoning-parser" in wrong.json()["error"]["message"]


def test_wrong_arguments_of_calibrate(capsys: pytest.CaptureFixture[str], other_server: Server) -> None:
    for arguments, status, message in (
        (["--tokens", "1"], 2, "1000"),
        (["--server", other_server.api, "--prompts", "nowhere.txt"], 1, "nowhere.txt cannot be read"),
        (["--server", other_server.api], 1, "401"),
        (["--server", other_server.api, "--api-key", API_KEY], 1, "random needs --prompts FILE"),
    ):
        assert calibrate(arguments) == status
        assert message in capsys.readouterr().err.replace("\n", " "), arguments
