"""A model that generates nothing starts and serves as with stock vLLM; a policy for it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from benchmarks.servers import both
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving, write_random_model

ARGUMENTS = (
    "--load-format", "dummy", "--served-model-name", "emb", "--runner", "pooling", "--convert", "embed",
    "--enforce-eager", "--dtype", "float32", "--kv-cache-memory-bytes", "268435456",
)  # fmt: skip
"""With the size of the cache, or vLLM on a CPU would take 92% of the machine's memory, or end where others use it."""
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/embeddings", {"model": "emb", "input": "use 3, 7 and 11"}),
    ("/v1/embeddings", {"model": "emb", "input": ["use 3", "use 7"], "encoding_format": "base64"}),
    ("/v1/embeddings", {"input": [[5, 6, 7], [8, 9]], "policy": None}),
    ("/v1/embeddings", {"model": "emb", "input": "use", "dimensions": 9}),
    ("/v1/embeddings", {"model": "other", "input": "use"}),
    ("/v1/embeddings", {}),
    ("/pooling", {"model": "emb", "input": "use 3"}),
    ("/score", {"model": "emb", "text_1": "use 3", "text_2": ["use 7", "use 3"]}),
    ("/rerank", {"model": "emb", "query": "use 3", "documents": ["use 7", "use 3"]}),
    ("/tokenize", {"model": "emb", "prompt": "use 3"}),
    ("/invocations", {"model": "emb", "input": "use 3"}),
    ("/v1/chat/completions", {"model": "emb", "messages": [{"role": "user", "content": "use 3"}]}),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It has no use for a database, so it needs no folder for one."""
    folder = tmp_path_factory.mktemp("pooling")
    model = write_random_model(folder / "model")
    environment = {**ONE_PROCESS, "XDG_DATA_HOME": "/proc/no-folder-can-be-made-here"}
    with serving(folder, str(model), *ARGUMENTS, environment=environment) as running:
        yield running


def test_it_embeds(server: Server) -> None:
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["emb"]
        answered = client.embeddings.create(model="emb", input=["use 3", "use 3", "use 7"], encoding_format="float")
        one, same, other = (item.embedding for item in answered.data)
        assert len(one) == 64
        assert one == pytest.approx(same, abs=1e-5)
        assert one != pytest.approx(other, abs=1e-2)


def test_a_policy_is_refused(server: Server) -> None:
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0) as client:
        for model, extra in (("emb", {"policy": "nowait"}), ("emb:nowait", {}), ("emb", {"forks": True})):
            with pytest.raises(openai.BadRequestError, match="emb generates no text here, so it has no policies"):
                client.embeddings.create(model=model, input="use 3", extra_body=extra)


def test_our_routes_say_why(server: Server) -> None:
    for path in ("/v1/policies", "/v1/experiments", "/v1/forks/x", "/forkpoint"):
        answered = httpx.get(server.url + path)
        assert answered.status_code == 404
        assert "generates no text" in answered.json()["error"]["message"]
    health = httpx.get(f"{server.url}/health?details")
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert any(name.startswith("forkpoint_build_info") for name in server.metrics())


@pytest.mark.soak
def test_it_answers_as_stock_vllm(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("both")
    model = str(write_random_model(folder / "model"))
    with both(folder, ["--model", model, *ARGUMENTS], [model, *ARGUMENTS]) as servers:
        for path, body in CALLS:
            stock, own = (httpx.post(server.url + path, json=body, timeout=60) for server in servers)
            assert own.status_code == stock.status_code, path
            assert own.headers["content-type"] == stock.headers["content-type"]
            assert comparable(own.json()) == comparable(stock.json()), path


def comparable(answered: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answered.items() if name not in ("id", "created")}
