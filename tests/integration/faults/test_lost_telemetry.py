"""Without its telemetry the server serves and counts lost records; without its engine /metrics answers until it ends.

The socket is removed before a worker has used it.
"""

from contextlib import suppress

import httpx
import openai
import psutil
import pytest

from tests.integration.puzzles import summary_of
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving, write_random_model

TO_THE_CAP = {"ignore_eos": True}  # random weights may end at any token


def test_a_socket_that_is_gone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("lost")
    (sockets := folder / "t").mkdir()
    monkeypatch.setenv("TMPDIR", str(sockets))
    model = write_random_model(folder / "model")
    arguments = (str(model), "--load-format", "dummy", "--served-model-name", "random", "--enforce-eager")
    with serving(folder, *arguments, environment=ONE_PROCESS) as server:
        (found,) = sockets.glob("forkpoint-*/telemetry")
        found.unlink()
        client = openai.OpenAI(base_url=server.api, api_key="none", max_retries=0)
        response = client.completions.create(
            model="random:observe", prompt="Use 3", max_tokens=7, extra_body=TO_THE_CAP
        )
        assert response.choices[0].finish_reason == "length"
        assert (summary_of(response)["complete"], summary_of(response)["tokens"], summary_of(response)["forks"]) == (
            False,
            7,
            0,
        )
        assert server.metrics()["forkpoint_telemetry_dropped_total"] == 7
        streamed = list(
            client.completions.create(
                model="random:observe", prompt="Use 3", max_tokens=7, stream=True, extra_body=TO_THE_CAP
            )
        )
        assert summary_of(streamed[-1])["complete"] is False
        health = httpx.get(f"{server.url}/health")
        assert health.status_code == 200
        assert any("no records of tokens arrive" in one for one in health.headers.get_list("X-Forkpoint-Warning"))
        client.close()
        the_page_answers_until_the_server_ends(server)


def the_page_answers_until_the_server_ends(server: Server) -> None:
    """When the engine dies vLLM ends the server within seconds, unless VLLM_KEEP_ALIVE_ON_ENGINE_DEATH is set."""
    (engine,) = [
        one for one in psutil.Process(server.process.pid).children(recursive=True) if "EngineCore" in one.name()
    ]
    engine.kill()
    statuses = set()
    while server.process.poll() is None:
        with suppress(httpx.TransportError):  # it has just gone
            statuses.add(httpx.get(f"{server.url}/metrics", timeout=30).status_code)
    assert statuses <= {200}
