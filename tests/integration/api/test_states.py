"""`/v1/states` and `forkpoint readout fit` on a real server: the states are those that readouts are computed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from safetensors.numpy import load

from forkpoint_clients.cli import steer
from forkpoint_clients.cli.readout import main
from forkpoint_policies.hidden.artefact import read_artefact
from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server

AT_STOPS: dict[str, Any] = {"previous": {"endings": ["."]}}


def ask(client: openai.OpenAI, policy: Any, **options: Any) -> tuple[str, list[dict[str, Any]]]:
    """An answer's id and the choices of its trace."""
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1.0, seed=1, max_tokens=120, extra_body={"policy": policy},
        **options,
    )  # fmt: skip
    return response.id, client.get(f"/forks/{response.id}", cast_to=dict)["choices"]


def states(server: Server, request_id: str, **fields: Any) -> dict[str, Any]:
    response = httpx.post(f"{server.api}/states", json={"request_id": request_id, **fields}, timeout=120)
    assert response.status_code == 200, response.text
    return load(response.content)


def test_a_readout_of_them_is_the_one_of_the_trace(server: Server, client: openai.OpenAI) -> None:
    when = {"readout_above": {"name": "correct", "value": 0.5}}
    request_id, (choice,) = ask(client, {"rules": [{"when": when, "do": {"observe": {}}}]})
    found = states(server, request_id, max_states=4096)
    readout = read_artefact(httpx.get(f"{server.api}/vectors/correct/file", timeout=60).content, "file")
    numbers = found["last"].astype(np.float64) @ readout.tensors["weight"] + readout.tensors["bias"]
    assert found["positions"].tolist() == list(range(len(choice["token_ids"])))
    assert 1 / (1 + np.exp(-numbers)) == pytest.approx(np.array(choice["hidden"]["readout.correct"]), abs=1e-4)


def test_they_are_read_where_the_conditions_hold(server: Server, client: openai.OpenAI) -> None:
    request_id, choices = ask(client, "observe", n=2)
    threshold = httpx.get(f"{server.api}/calibration", timeout=60).json()["fork_threshold"]
    for number, choice in enumerate(choices):
        found = states(server, request_id, choice=number, when=[AT_STOPS, {"entropy_above": "fork"}])
        tokens, entropies = choice["tokens"], choice["entropies"]
        stops = {place for place in range(1, len(tokens)) if tokens[place - 1].endswith(".")}
        forks = {place for place, entropy in enumerate(entropies) if entropy > threshold + 1e-3}
        by_rule = [
            {int(place) for place, rules in zip(found["positions"], found["rules"], strict=True) if rules >> rule & 1}
            for rule in range(2)
        ]
        assert by_rule[0] == stops
        assert by_rule[1] >= forks
        assert len(stops) > 0
        assert len(forks) > 0
    assert states(server, request_id, max_states=3)["positions"].tolist() == [0, 1, 2]
    assert states(server, request_id, when=[{"after_token": 4000}]).keys() == {"positions", "rules"}


def test_what_cannot_be_read(server: Server, client: openai.OpenAI) -> None:
    request_id, _ = ask(client, "observe")
    tree, _ = ask(client, {"rules": [{"do": {"sample": {"answers": 2, "select": "majority"}}}]})
    for body, status, says in (
        ({"request_id": "unknown"}, 404, "there is no trace of 'unknown'"),
        ({"request_id": request_id, "choice": 1}, 400, "choice: must be below 1"),
        ({"request_id": tree}, 400, "request_id: is of a policy that branches"),
        ({"request_id": request_id, "when": [{"entropy_abov": 1}]}, 400, "when[0].entropy_abov: is not a field"),
        ({"request_id": request_id, "when": []}, 400, "when: "),
        ({"request_id": request_id, "max_states": 5000}, 400, "max_states: "),
        (
            {"request_id": request_id, "layers": [1]},
            400,
            "layers: layer 1 is not hooked: this server was started without",
        ),
        ([], 400, "body: must be an object"),
    ):
        response = httpx.post(f"{server.api}/states", json=body, timeout=60)
        assert response.status_code == status
        assert response.json()["error"]["message"].startswith(says)


def test_no_vector_is_fitted_without_hooked_layers(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert steer.main(["fit", "mine", "--positive", "{}", "--server", server.url]) == 1
    assert capsys.readouterr().err.startswith("forkpoint steer fit: --server: was started without --hidden-layers")


def test_a_readout_is_fitted_stored_and_acted_on(
    server: Server, client: openai.OpenAI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On few questions: that it works, not how well it separates."""
    file = tmp_path / "mine.safetensors"
    arguments = [
        "--server", server.url, "--questions", "32", "--data", "countdown:easy", "--max-tokens", "160",
        "--max-states", "32", "--placebos", "20", "--out", str(file), "--store", "--format", "json",
    ]  # fmt: skip
    assert main(["fit", "mine", *arguments]) == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out)
    assert report["answers"] == 32
    assert 0 <= report["auc"]["interval"][0] <= report["auc"]["readout"] <= report["auc"]["interval"][1] <= 1
    try:
        listed = httpx.get(f"{server.api}/vectors/mine", timeout=60).json()
        assert listed["digest"] == read_artefact(file.read_bytes(), "file").digest == report["readout"]["digest"]
        when = {"readout_above": {"name": "mine", "value": 0.0}}
        _, (choice,) = ask(client, {"rules": [{"when": when, "do": {"observe": {}}}]})
        assert all(0 <= value <= 1 for value in choice["hidden"]["readout.mine"])
    finally:
        httpx.delete(f"{server.api}/vectors/mine", timeout=60)
