"""`/v1/vectors` and `--vectors` through servers: what is stored is at the workers, and what is wrong is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from forkpoint_policies.hidden.artefact import Artefact, Model, read_artefact
from tests.integration.puzzles import MESSAGES, summary_of
from tests.processes.forkpoint_server import Server, serving

DEMO = Model("Qwen3ForCausalLM", 192)
BINARY = {"Content-Type": "application/octet-stream"}


def linear(model: Model, weight: float) -> Artefact:
    """A readout with the same weight for each dimension."""
    tensors = {"weight": np.full(model.hidden_size, weight, np.float32), "bias": np.array(0.5, np.float32)}
    return Artefact("readout", model, tensors, "by hand", output="probability")


READOUT = linear(DEMO, 0.02)
OTHER = linear(Model("Qwen3ForCausalLM", 64), 0.25)


def put(server: Server, name: str, raw: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.put(f"{server.api}/vectors/{name}", content=raw, headers=headers or BINARY, timeout=60)


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_one_is_stored_shown_replaced_and_deleted(server: Server) -> None:
    url = f"{server.api}/vectors/mine"
    created = put(server, "mine", READOUT.raw)
    assert created.status_code == 201, created.text
    shown = httpx.get(url, timeout=60).json()
    assert shown == created.json()
    assert shown == {"object": "vector", "name": "mine", **READOUT.to_dict(), "origin": "stored", "problem": None}
    assert put(server, "mine", READOUT.raw).status_code == 200
    listed = httpx.get(f"{server.api}/vectors", timeout=60).json()["data"]
    assert [one["digest"] for one in listed if one["name"] == "mine"] == [READOUT.digest]
    assert read_artefact(httpx.get(f"{url}/file", timeout=60).content, "file").digest == READOUT.digest
    assert httpx.delete(url, timeout=60).json() == {"object": "vector.deleted", "name": "mine", "deleted": True}
    for gone in (httpx.get(url, timeout=60), httpx.delete(url, timeout=60)):
        assert error_of(gone)[0] == 404
        assert "there is no vector or readout 'mine'" in error_of(gone)[1]


def test_what_cannot_be_stored(server: Server) -> None:
    infinite = linear(DEMO, np.nan)
    for raw, says in (
        (b"not a file", "body: is not a safetensors file"),
        (infinite.raw, "body: weight has values that are not finite"),
        (
            OTHER.raw,
            "body: is for Qwen3ForCausalLM with 64 dimensions, but the served model is Qwen3ForCausalLM with 192",
        ),
    ):
        status, message = error_of(put(server, "mine", raw))
        assert status == 400
        assert message.startswith(says)
    assert error_of(put(server, "two words", READOUT.raw))[0] == 400
    assert error_of(put(server, "mine", READOUT.raw, {"Content-Type": "text/plain"}))[0] == 415
    assert error_of(put(server, "mine", bytes((16 << 20) + 1)))[0] == 413
    assert httpx.get(f"{server.api}/vectors/mine", timeout=60).status_code == 404


def test_a_policy_acts_by_a_readout(server: Server, client: openai.OpenAI) -> None:
    """Its values are in the trace, in the response and in the metrics; another readout is another policy."""

    def ask(policy: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        response = client.chat.completions.create(
            model="countdown", messages=MESSAGES, temperature=0, max_tokens=40, extra_body={"policy": policy}
        )
        return summary_of(response), client.get(f"/forks/{response.id}", cast_to=dict)["choices"][0]

    policy = {"rules": [{"when": {"readout_above": {"name": "acting", "value": 0.6}}, "do": {"observe": {}}}]}
    with pytest.raises(openai.BadRequestError, match="there is no readout 'acting'") as caught:
        ask(policy)
    assert caught.value.param == "policy.rules[0].when.readout_above.name"
    put(server, "acting", READOUT.raw)
    summary, choice = ask(policy)
    values = choice["hidden"]["readout.acting"]
    assert choice["hidden"].keys() == {"readout.acting"}
    assert len(values) == len(choice["token_ids"])
    assert all(0 < value < 1 for value in values)
    assert summary["hidden"] == {"readout.acting": pytest.approx(sum(values) / len(values), abs=1e-3)}
    assert [bool(actions) for actions in choice["actions"]] == [value > 0.6 for value in values]
    assert len({value > 0.6 for value in values}) == 2
    counted = [
        value for name, value in server.metrics().items()
        if name.startswith("forkpoint_readout_count") and 'readout="acting"' in name
    ]  # fmt: skip
    assert sum(counted) == len(values)

    named = f"{server.api}/policies/by-acting"
    httpx.put(named, json=policy, timeout=60).raise_for_status()
    before = httpx.get(named, timeout=60).json()["digest"]
    assert ask("by-acting")[0]["digest"] == before
    put(server, "acting", linear(DEMO, -0.02).raw)
    assert httpx.get(named, timeout=60).json()["digest"] != before
    httpx.delete(named, timeout=60).raise_for_status()
    other, changed = ask(policy)
    assert other["digest"] != summary["digest"]
    assert changed["token_ids"] == choice["token_ids"]
    assert changed["hidden"]["readout.acting"] != values
    httpx.delete(f"{server.api}/vectors/acting", timeout=60).raise_for_status()
    with pytest.raises(openai.BadRequestError):
        ask(policy)


def test_one_that_a_running_experiment_names_stays(server: Server) -> None:
    put(server, "bound", READOUT.raw)
    policy = {"rules": [{"when": {"readout_above": {"name": "bound", "value": 0.5}}, "do": {"temperature": 1.2}}]}
    arms = [{"name": "control", "weight": 0.5}, {"name": "warm", "policy": policy, "weight": 0.5}]
    experiment = {"name": "by-readout", "arms": arms}
    url, path = f"{server.api}/experiments", f"{server.api}/vectors/bound"
    try:
        httpx.post(url, json=experiment, timeout=60).raise_for_status()
        for refused in (httpx.delete(path, timeout=60), put(server, "bound", linear(DEMO, 0.5).raw)):
            assert error_of(refused) == (409, "'bound' is in a running experiment: by-readout; stop it first")
    finally:
        httpx.patch(f"{url}/by-readout", json={"status": "stopped"}, timeout=60)
        httpx.delete(f"{url}/by-readout", timeout=60)
    assert httpx.delete(path, timeout=60).status_code == 200


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "correct.safetensors").write_bytes(READOUT.raw)
    with serving(tmp_path, "--vectors", str(folder)) as server:
        listed = httpx.get(f"{server.api}/vectors/correct", timeout=60).json()
        assert (listed["origin"], listed["digest"]) == ("folder", READOUT.digest)
        for refused in (put(server, "correct", READOUT.raw), httpx.delete(f"{server.api}/vectors/correct", timeout=60)):
            assert error_of(refused) == (
                409, "'correct' is loaded by --vectors and cannot be changed; choose another name",
            )  # fmt: skip


def test_a_folder_for_another_model(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "correct.safetensors").write_bytes(OTHER.raw)
    with pytest.raises(RuntimeError), serving(tmp_path, "--vectors", str(folder)):
        pass
    assert (
        "forkpoint serve: --vectors: correct.safetensors: is for Qwen3ForCausalLM with 64 dimensions, but the served "
        "model is Qwen3ForCausalLM with 192 dimensions"
    ) in (tmp_path / "server.log").read_text()
