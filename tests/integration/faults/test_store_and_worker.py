"""PostgreSQL goes away and returns, the telemetry socket is deleted while in use, a tensor-parallel worker dies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.polling import health, until
from tests.processes.forkpoint_server import serving, write_random_model
from tests.processes.postgresql import postgresql

from .experiment_client import MESSAGES, Experiment

pytestmark = pytest.mark.soak
TWO_RANKS = {"VLLM_CPU_OMP_THREADS_BIND": "0|1", "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "1"}


@dataclass(frozen=True)
class Faulty:
    """A server on two ranks, with its experiment; closing `postgresql` stops it, and its data are in the folder."""

    experiment: Experiment
    postgresql: ExitStack
    folder: Path


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "t").mkdir()
    with ExitStack() as running, ExitStack() as database:
        url = database.enter_context(postgresql(folder / "data")).new_database()
        environment = {**TWO_RANKS, "TMPDIR": str(folder / "t")}
        server = running.enter_context(
            serving(folder, "--tensor-parallel-size", "2", "--database-url", url, environment=environment)
        )
        one = Experiment(server)
        one.start()
        yield Faulty(one, database, folder)


def test_postgresql_goes_away_and_comes_back(faulty: Faulty) -> None:
    experiment = faulty.experiment
    assert experiment.post(experiment.generate()) == 200
    faulty.postgresql.close()
    ids = [experiment.generate() for _ in range(5)]
    until(
        lambda: "does not answer" in (said := health(experiment.server)[1]) and "does not take what is recorded" in said
    )
    assert health(experiment.server)[0] == 200
    assert experiment.post(ids[0]) == 503
    policy = {"rules": [{"do": {"temperature": 1.1}}]}
    assert httpx.put(f"{experiment.server.api}/policies/own", json=policy, timeout=60).status_code == 503
    faulty.postgresql.enter_context(postgresql(faulty.folder / "data"))
    until(lambda: health(experiment.server)[1] == "")
    for one in ids:
        assert experiment.post(one) == 200
    experiment.check()
    assert httpx.get(f"{experiment.server.api}/policies/own", timeout=60).status_code == 404


def test_a_socket_that_is_deleted_while_it_is_used(faulty: Faulty) -> None:
    """Who holds a connection keeps it."""
    (socket,) = (faulty.folder / "t").glob("forkpoint-*/telemetry")
    socket.unlink()
    body = {
        "model": "countdown",
        "messages": MESSAGES,
        "max_tokens": 50,
        "policy": "branch-at-forks",
        "n": 3,
        "seed": 1,
    }
    answer = httpx.post(f"{faulty.experiment.server.api}/chat/completions", json=body, timeout=120).json()
    assert (answer["forkpoint"]["complete"], len(answer["choices"])) == (True, 3)
    assert health(faulty.experiment.server) == (200, "")


def test_a_worker_dies(faulty: Faulty) -> None:
    """One of two ranks: the engine ends, running requests fail and are recorded so, and outcomes are still accepted."""
    experiment = faulty.experiment
    last = experiment.generate()
    with ThreadPoolExecutor(1) as pool:
        body = {"model": "countdown", "messages": MESSAGES, "user": "late", "max_tokens": 2000, "ignore_eos": True}
        cut = pool.submit(httpx.post, f"{experiment.server.api}/chat/completions", json=body, timeout=120)
        until(lambda: experiment.server.metrics()["forkpoint_choices_running"])
        workers = [
            one
            for one in psutil.Process(experiment.server.process.pid).children(recursive=True)
            if "Worker" in one.name()
        ]
        assert len(workers) == 2
        workers[1].kill()
        assert cut.result().status_code == 500
    experiment.answered.append("the one that failed")
    assert health(experiment.server)[0] == 503
    assert experiment.post(last) == 200
    experiment.check()
    failed = {
        name: value
        for name, value in experiment.server.metrics().items()
        if "forkpoint_experiment_errors_total" in name
    }
    assert sum(failed.values()) == 1


def test_the_server_is_killed(tmp_path: Path) -> None:
    """Its engine and workers end with it: they would keep a GPU's memory."""
    model = write_random_model(tmp_path / "model")
    arguments = (str(model), "--load-format", "dummy", "--enforce-eager", "--tensor-parallel-size", "2")
    with serving(tmp_path, *arguments, environment=TWO_RANKS) as server:
        processes = psutil.Process(server.process.pid).children(recursive=True)
        assert {"EngineCore", "Worker"} <= {one.name().removeprefix("VLLM::").partition("_")[0] for one in processes}
        server.process.kill()
        _, alive = psutil.wait_procs(processes, timeout=60)
        assert alive == []
