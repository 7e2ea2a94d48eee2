"""`/v1/vectors` and `--vectors` through servers: what is stored is at the workers, and what is wrong is one line."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

from forkpoint_policies.hidden.artefact import Artefact, Model, read_artefact
from tests.processes.forkpoint_server import Server, serving

DEMO = Model("Qwen3ForCausalLM", 192)
BINARY = {"Content-Type": "application/octet-stream"}


def linear(model: Model, weight: float) -> Artefact:
    """A readout with the same weight for each dimension."""
    tensors = {"weight": np.full(model.hidden_size, weight, np.float32), "bias": np.array(0.5, np.float32)}
    return Artefact("readout", model, tensors, "by hand", output="probability")


READOUT = linear(DEMO, 0.25)
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
