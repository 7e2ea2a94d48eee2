"""A server that steers: what its requests say and get, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from forkpoint_clients.cli.steer import main
from forkpoint_policies.hidden.artefact import Artefact, Model, read_artefact
from forkpoint_policies.spec.connectors import THINKING_WORDS
from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving

WIDTH = 192
RULE: dict[str, Any] = {"when": {"every": 8}, "do": {"steer": {"vector": "calm", "scale": 40.0, "tokens": 4}}}


def vector(*layers: int) -> Artefact:
    direction = np.random.default_rng(7).standard_normal(WIDTH).astype(np.float32)
    tensors = {f"layer.{layer}": 4 * direction / np.linalg.norm(direction) for layer in layers}
    return Artefact("vector", Model("Qwen3ForCausalLM", WIDTH), tensors, "at random")


@pytest.fixture(scope="module")
def steering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("steering")
    vectors = folder / "vectors"
    vectors.mkdir()
    (vectors / "calm.safetensors").write_bytes(vector(2).raw)
    (vectors / "early.safetensors").write_bytes(vector(0, 1).raw)
    with serving(
        folder, "--hidden-layers", "2, 1", "--recycle-layers", "2", "--vectors", str(vectors), environment=ONE_PROCESS
    ) as server:
        yield server


def complete(server: Server, policy: Any, **body: Any) -> dict[str, Any]:
    sent = {"model": "countdown", "messages": MESSAGES, "temperature": 0, "max_tokens": 60, "policy": policy, **body}
    response = httpx.post(f"{server.api}/chat/completions", json=sent, timeout=120)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def text_of(response: dict[str, Any]) -> str:
    message = response["choices"][0]["message"]
    return (message.get("reasoning") or message.get("reasoning_content") or "") + (message["content"] or "")


def logprobs_of(response: dict[str, Any]) -> list[float]:
    return [one["logprob"] for one in response["choices"][0]["logprobs"]["content"]]


def refusal(server: Server, policy: Any) -> str:
    sent = {"model": "countdown", "messages": MESSAGES, "max_tokens": 8, "policy": policy}
    response = httpx.post(f"{server.api}/chat/completions", json=sent, timeout=60)
    assert response.status_code == 400, response.text
    message: str = response.json()["error"]["message"]
    return message


def test_a_policy_steers_and_says_how_often(steering: Server) -> None:
    plain, steered = complete(steering, "observe"), complete(steering, {"rules": [RULE]})
    assert text_of(plain) != text_of(steered)
    assert text_of(complete(steering, {"rules": [RULE]})) == text_of(steered)
    positions = -(-steered["usage"]["completion_tokens"] // 8)
    assert steered["forkpoint"]["interventions"] == {"steer": {"fired": positions, "effect": 0.0}}
    # unsteered after a steered one: the prefix cache gives it nothing that was computed with the vector
    assert text_of(complete(steering, "observe")) == text_of(plain)


def test_a_position_is_computed_again_within_one_ordinary_answer(steering: Server) -> None:
    again = {"rules": [{"when": {"every": 8}, "do": {"recycle": {"layer": 2, "from": "again"}}}]}
    body = {"temperature": 1.0, "seed": 4, "logprobs": True}
    plain, changed = complete(steering, "observe", **body), complete(steering, again, **body)
    assert logprobs_of(plain) != logprobs_of(changed)
    assert text_of(complete(steering, again, **body)) == text_of(changed)
    count = changed["usage"]["completion_tokens"]
    assert changed["forkpoint"]["interventions"] == {"recycle": {"fired": -(-count // 8), "effect": 0.0}}
    assert len(logprobs_of(changed)) == count == changed["forkpoint"]["tokens"]

    trace = httpx.get(f"{steering.api}/forks/{changed['id']}", timeout=60).raise_for_status().json()
    (own,) = trace["choices"]
    assert own["positions"] == list(range(count))
    assert [position for position, names in enumerate(own["actions"]) if names == ["recycle"]] == list(
        range(0, count, 8)
    )

    sent = {
        "model": "countdown", "messages": MESSAGES, "max_tokens": 60, "policy": again, "stream": True,
        "stream_options": {"include_usage": True}, **body,
    }  # fmt: skip
    with httpx.stream("POST", f"{steering.api}/chat/completions", json=sent, timeout=120) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: {")]
    parts = [json.loads(line) for line in lines]
    deltas = [choice["delta"] for part in parts for choice in part.get("choices", ())]
    fields = ("reasoning", "reasoning_content", "content")
    streamed = "".join(next((one[field] for field in fields if one.get(field)), "") for one in deltas)
    assert streamed == text_of(changed)
    (usage,) = [part["usage"] for part in parts if part.get("usage")]
    assert usage["completion_tokens"] == count
    # what is stored of it is the model's own: without a salt, the next request finds it
    assert logprobs_of(complete(steering, "observe", **body)) == logprobs_of(plain)


def test_what_cannot_stand_beside_a_position_that_is_computed_again(steering: Server) -> None:
    again = {"when": {"every": 8}, "do": {"recycle": {"layer": 2, "from": "again"}}}
    said = refusal(steering, {"rules": [again, RULE]})
    assert "rules [0] let the model compute a position again, and rules [1] change how it reads tokens" in said
    readout = {"when": {"mean_entropy_below": 1.0}, "do": again["do"]}
    assert "when.mean_entropy_below is not known where a recycle with `from` `again` decides" in refusal(
        steering, {"rules": [readout]}
    )
    several = {"do": {"recycle": {"layer": 2, "from": "again", "tokens": 2}}}
    assert "with `again` one token is drawn; leave it out" in refusal(steering, {"rules": [several]})


@pytest.mark.parametrize("reread", ["next", "here"])
def test_a_layer_is_run_again_and_says_how_often(steering: Server, reread: str) -> None:
    again = {"when": {"every": 8}, "do": {"recycle": {"layer": 2, "tokens": 4, "from": reread}}}
    plain, changed = complete(steering, "observe"), complete(steering, {"rules": [again]})
    assert text_of(plain) != text_of(changed)
    assert text_of(complete(steering, {"rules": [again]})) == text_of(changed)
    tokens = changed["usage"]["completion_tokens"]
    fired = -(-tokens // 8) if reread == "next" else (tokens - 1) // 8
    assert changed["forkpoint"]["interventions"] == {"recycle": {"fired": fired, "effect": 0.0}}
    assert text_of(complete(steering, {"rules": [again], "shadow": True})) == text_of(plain)
    assert text_of(complete(steering, "observe")) == text_of(plain)


def test_the_named_policy_runs_a_layer_again_after_thinking_words(steering: Server) -> None:
    own = {"use": "recycle", "with": {"layer": 2, "probability": 1.0}}
    changed = complete(steering, own)
    words = [*re.finditer(rf"\b({'|'.join(THINKING_WORDS)})\b", text_of(changed))]
    assert words
    assert changed["forkpoint"]["interventions"]["recycle"]["fired"] in (len(words), len(words) - 1)
    assert refusal(steering, "recycle") == (
        "policy.rules[0].do.recycle.layer: layer 23 cannot be run again: this server was started with "
        "--recycle-layers 2"
    )
    assert httpx.get(f"{steering.url}/v1/vectors", timeout=60).json()["recycle_layers"] == [2]


def test_from_here_steers_and_says_how_often(steering: Server) -> None:
    here = {"when": {"every": 8}, "do": {"steer": {**RULE["do"]["steer"], "from": "here"}}}
    plain, steered = complete(steering, "observe"), complete(steering, {"rules": [here]})
    assert text_of(plain) != text_of(steered)
    assert text_of(complete(steering, {"rules": [here]})) == text_of(steered)
    positions = (steered["usage"]["completion_tokens"] - 1) // 8
    assert steered["forkpoint"]["interventions"] == {"steer": {"fired": positions, "effect": 0.0}}
    assert text_of(complete(steering, {"rules": [here], "shadow": True})) == text_of(plain)
    assert text_of(complete(steering, "observe")) == text_of(plain)
    refused = refusal(steering, {"rules": [{**here, "when": {"entropy_above": "fork"}}]})
    assert refused.startswith("policy.rules[0]: when.entropy_above is known only after the forward pass")


def test_the_named_policy_steers_at_the_ends_of_sentences(steering: Server) -> None:
    """With the vector that ships with the embedded model, which writes no paragraphs."""
    seal = {"use": "seal", "with": {"ending": "."}}
    plain, steered = complete(steering, "observe"), complete(steering, seal)
    assert text_of(plain) != text_of(steered)
    assert text_of(steered).count(".") >= steered["forkpoint"]["interventions"]["steer"]["fired"] > 0
    assert text_of(complete(steering, {"use": "seal.placebo", "with": {"ending": "."}})) != text_of(steered)
    assert text_of(complete(steering, "seal")) == text_of(plain)  # nothing ends so


def test_shadow_adds_nothing_and_the_placebo_adds_something_else(steering: Server) -> None:
    policy = {"rules": [RULE]}
    plain, steered = text_of(complete(steering, "observe")), text_of(complete(steering, policy))
    assert text_of(complete(steering, {**policy, "shadow": True})) == plain
    placebo = {"rules": [{"do": {"control": {"like": RULE, "match": "direction"}}}]}
    assert text_of(complete(steering, placebo)) != steered
    assert refusal(steering, {"rules": [{"do": {"control": {"like": RULE, "match": "count"}}}]}).startswith(
        "policy.rules[0].do.control.match: a rule that does this can be matched by direction"
    )


def test_states_of_hooked_layers_are_read_and_others_are_named(steering: Server) -> None:
    body = {"request_id": complete(steering, "observe")["id"], "max_states": 5}
    response = httpx.post(f"{steering.api}/states", json={**body, "layers": [2, "last", 1, 2]}, timeout=60)
    assert response.status_code == 200, response.text
    found = load(response.content)
    assert found.keys() == {"positions", "rules", "layer.2", "layer.1", "last"}
    assert found["layer.1"].shape == found["layer.2"].shape == (5, WIDTH)
    assert not np.allclose(found["layer.1"], found["layer.2"])
    for layers, message in (
        ([3], "layers: layer 3 is not hooked: this server was started with --hidden-layers 1,2"),
        ([], "layers: "),
        (["first"], "layers"),
    ):
        response = httpx.post(f"{steering.api}/states", json={**body, "layers": layers}, timeout=60)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith(message)


def test_a_vector_is_fitted_stored_and_steers(
    steering: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On few questions: that it works, not how well it separates."""
    file = tmp_path / "mine.safetensors"
    reflects = json.dumps({"previous": {"connectors": ["reflection"]}})
    common = ["fit", "mine", "--negative", reflects, "--server", steering.url, "--out", str(file)]
    sizes = ["--data", "countdown:easy", "--questions", "12", "--max-tokens", "120", "--placebos", "20"]
    assert main([*common, *sizes, "--store", "--format", "json"]) == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out)
    assert [one["layer"] for one in report["layers"]] == ["layer.1", "layer.2"]
    assert all(one["norm"] > 0 and one["auc"]["vector"] > 0.5 for one in report["layers"])
    made = read_artefact(file.read_bytes(), "file")
    assert len(made.layers) == 1
    listed = httpx.get(f"{steering.api}/vectors/mine", timeout=60).json()
    assert listed["digest"] == made.digest == report["vector"]["digest"]
    rule = {"when": {"every": 4}, "do": {"steer": {"vector": "mine", "scale": -4.0}}}
    assert text_of(complete(steering, {"rules": [rule]})) != text_of(complete(steering, "observe"))
    httpx.delete(f"{steering.api}/vectors/mine", timeout=60).raise_for_status()
    for options, message in (
        (["--layers", "3"], "--layers: layer 3 is not hooked; the server hooks 1, 2 (--hidden-layers)"),
        (["--layers", "1", "--keep", "2"], "--keep: layer 2 is not one of those that are fitted: 1"),
    ):
        assert main([*common, *options]) == 1
        assert capsys.readouterr().err.startswith(f"forkpoint steer fit: {message}")


def test_several_choices_and_a_seed(steering: Server) -> None:
    body = {"temperature": 1.0, "seed": 3, "n": 2}
    first, second = (complete(steering, {"rules": [RULE]}, **body) for _ in range(2))
    assert [one["message"] for one in first["choices"]] == [one["message"] for one in second["choices"]]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [{"do": {"steer": {"vector": "clam"}}}],
            "there is no vector 'clam'; there are calm, early, seal (GET /v1/vectors)",
        ),
        (
            [{"do": {"steer": {"vector": "early"}}}],
            "'early' is for layer 0, which is not hooked: this server was started with --hidden-layers 1,2",
        ),
    ],
)
def test_what_is_refused(steering: Server, rules: list[Any], message: str) -> None:
    assert message in refusal(steering, {"rules": rules})
