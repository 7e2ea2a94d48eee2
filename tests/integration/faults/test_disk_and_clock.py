"""The store's disk is full, and the host's clock jumps: answers go on, and nothing that was acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.polling import health, until
from tests.processes.forkpoint_server import serving

from .experiment_client import Experiment

pytestmark = pytest.mark.soak
DISK_MIB = 16
MAX_POLICIES = 600
NOT_HANDED_ON = "import os; os.environ.pop('LD_PRELOAD', None)"
"""vLLM's engine dies under libfaketime, so only the server's own process gets the clock; all that is ours is in it."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own, of a few MiB. Only root can mount one."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "forkpoint-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def clock_library() -> Path:
    """Debian's libfaketime: a program that is started with it takes the time from a file."""
    found = sorted((Path(sys.executable).parents[1] / "debian").rglob("libfaketimeMT.so.1"))
    found += sorted(Path("/usr/lib").rglob("libfaketimeMT.so.1"))
    if not found:
        raise FileNotFoundError("libfaketime is not here: `make soak` unpacks Debian's; elsewhere install it")
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture(scope="module")
def experiment(folder: Path) -> Iterator[Experiment]:
    """A server whose database has little room, and whose clock is read from a file."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    set_clock(folder, "+0")
    (folder / "sitecustomize.py").write_text(NOT_HANDED_ON)
    environment = {
        "PYTHONPATH": str(folder), "LD_PRELOAD": str(clock_library()), "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "disk"))
        server = stack.enter_context(
            serving(folder, "--database-url", f"sqlite:///{disk / 'forkpoint.sqlite3'}", environment=environment)
        )
        one = Experiment(server)
        one.start()
        yield one


def set_clock(folder: Path, offset: str) -> None:
    """What the server's clock differs from the host's by, from now on."""
    (folder / "clock.new").write_text(f"{offset}\n")
    (folder / "clock.new").rename(folder / "clock")


def created(experiment: Experiment) -> int:
    body = {"model": "countdown", "prompt": "Use", "max_tokens": 1}
    return int(
        httpx.post(f"{experiment.server.api}/completions", json=body, timeout=60).raise_for_status().json()["created"]
    )


def test_a_clock_that_jumps(experiment: Experiment, folder: Path) -> None:
    """By days back and forth during generation: answers are as long as before, and their records are complete."""
    first = experiment.generate()
    before = created(experiment)
    for offset in ("+3d", "-2d", "+0"):
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(experiment.generate, max_tokens=400, ignore_eos=True)
            until(lambda: experiment.server.metrics()["forkpoint_choices_running"])
            set_clock(folder, offset)
            writing.result()
        if offset != "+0":
            assert abs(created(experiment) - before) > 86_000  # the clock did jump
        assert experiment.post(experiment.generate()) == 200
        assert health(experiment.server) == (200, "")
        experiment.check()
    assert experiment.post(first) == 200
    experiment.check()
    lasting = experiment.server.metrics()
    seconds, answers = (
        sum(value for name, value in lasting.items() if name.startswith(f"forkpoint_request_seconds_{part}{{"))
        for part in ("sum", "count")
    )
    assert 0 < seconds / answers < 60


def test_a_disk_that_is_full(experiment: Experiment, folder: Path) -> None:
    api, stored = experiment.server.api, list[int]()
    assert experiment.post(experiment.generate()) == 200
    fill(folder / "disk" / "filling")
    for number in range(MAX_POLICIES):
        policy = {"description": "x" * 2000, "rules": [{"do": {"temperature": 1.1}}]}
        answer = httpx.put(f"{api}/policies/full-{number}", json=policy, timeout=60)
        if answer.status_code != 200:
            assert answer.status_code == 503, answer.text
            assert "was not acknowledged" in answer.json()["error"]["message"]
            break
        stored.append(number)
    else:
        pytest.fail("the disk was never full")
    ids = [experiment.generate() for _ in range(5)]
    until(lambda: "does not take what is recorded" in health(experiment.server)[1])
    assert health(experiment.server)[0] == 200
    assert experiment.post(ids[-1]) == 503
    assert experiment.server.metrics()["forkpoint_records_waiting"] > 0
    (folder / "disk" / "filling").unlink()
    until(lambda: health(experiment.server)[1] == "")
    assert experiment.post(ids[-1]) == 200
    assert experiment.server.metrics()["forkpoint_records_waiting"] == 0
    experiment.check()
    listed = {one["name"] for one in httpx.get(f"{api}/policies", timeout=60).json()["data"]}
    assert {f"full-{number}" for number in stored} == {name for name in listed if name.startswith("full-")} - {
        name for name in listed if name.endswith(".placebo")
    }
    assert not [
        value for name, value in experiment.server.metrics().items() if "records_dropped_total" in name and value
    ]


def fill(file: Path) -> None:
    """Write until no more goes onto the disk."""
    with file.open("wb", buffering=0) as output:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while output.write(bytes(size)):
                    pass
            except OSError:
                continue
