"""`forkpoint findings` on a real server: all of them, on few questions, and again without sending a request."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from forkpoint_clients.cli.findings import main
from forkpoint_clients.findings.catalog import FINDINGS
from tests.processes.forkpoint_server import COMMAND, Server, serving

QUESTIONS = "4"
SECONDS = 240
WORDS = {"reproduced", "not reproduced", "undecided"}
MAY_BE_UNKNOWN = {"verified forks that lie in the top fifth", "correlation of rank and velocity, over answers"}
"""Figures that so few texts may not have."""
HOOKS = {"steering": "--hidden-layers", "recycling": "--recycle-layers"}
"""The findings that need a server with hooks, and the option that it must be started with."""


def command(url: str, out: Path, *more: str) -> list[str]:
    options = [
        "--data",
        "countdown:easy",
        "--questions",
        QUESTIONS,
        "--max-tokens",
        "250",
        "--quick",
        "--out",
        str(out),
    ]
    return [str(COMMAND), "findings", "--server", url, *options, *more]


@pytest.fixture(scope="module")
def out(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("findings")
    subprocess.run(
        command(server.api, folder, "--markdown", str(folder / "page.md")),
        check=True,
        timeout=SECONDS,
        stdout=subprocess.DEVNULL,
    )
    return folder


def check_undecided(one: dict[str, Any]) -> None:
    """A finding has figures, and they decide nothing on so few questions."""
    assert one["cannot"] is None, one["name"]
    assert one["verdict"] in WORDS
    assert one["claims"]
    assert one["plots"]
    for claim in one["claims"]:
        assert claim["verdict"] in WORDS
        for part in claim["parts"]:
            if part["value"] is None:
                assert part["what"] in MAY_BE_UNKNOWN or "right less wrong" in part["what"]
            else:
                assert part["low"] is None or part["low"] <= part["value"] <= part["high"]
            assert part["questions"] <= int(QUESTIONS)
            assert part["verdict"] == "undecided"  # for any interval
            assert part["n_needed"] >= 10


def results_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text())
    return found


@pytest.mark.timeout(SECONDS + 300)
def test_all_findings_come_to_a_verdict(out: Path) -> None:
    found = results_of(out)
    assert [one["name"] for one in found["findings"]] == list(FINDINGS)
    for one in found["findings"]:
        if one["name"] in HOOKS:
            assert f"was started with {HOOKS[one['name']]}" in one["cannot"]
        else:
            check_undecided(one)
    assert found["cost"]["tokens"] > 0
    page = (out / "report.html").read_text()
    assert page.count("<figure>") == sum(len(one["plots"]) for one in found["findings"])
    assert (out / "page.md").read_text().count(".svg)") == len(list((out / "page").iterdir()))


def test_finished_requests_are_not_sent_again(server: Server, out: Path) -> None:
    before, lines = results_of(out), (out / "journal.jsonl").read_bytes()
    subprocess.run(
        command(server.api, out, "connectors", "dynamics"), check=True, timeout=SECONDS, stdout=subprocess.DEVNULL
    )
    again = results_of(out)
    assert (out / "journal.jsonl").read_bytes() == lines
    assert again["cost"]["requests"] == 0
    assert again["findings"] == [one for one in before["findings"] if one["name"] in ("connectors", "dynamics")]


@pytest.mark.timeout(SECONDS + 300)
def test_a_server_with_hooks_retests_what_needs_them(tmp_path: Path) -> None:
    with serving(tmp_path, "--hidden-layers", "1", "--recycle-layers", "2") as server:
        subprocess.run(
            command(server.api, tmp_path / "out", *HOOKS), check=True, timeout=SECONDS, stdout=subprocess.DEVNULL
        )
    found = results_of(tmp_path / "out")["findings"]
    assert [one["name"] for one in found] == list(HOOKS)
    for one in found:
        check_undecided(one)
        (table,) = one["tables"]
        fired = {row[0]: row[-1] for row in table["rows"]}
        assert all(not value.startswith("0.00") for arm, value in fired.items() if arm != "no policy"), fired


class NoForkpoint(BaseHTTPRequestHandler):
    """A server that lists models and knows nothing else."""

    def do_GET(self) -> None:
        body = b'{"object": "list", "data": [{"id": "other"}]}' if self.path == "/v1/models" else b"{}"
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as it is called
        """Say nothing."""


@pytest.fixture
def no_forkpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoForkpoint) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()
        thread.join()


def test_a_server_other_than_forkpoint_is_reported(no_forkpoint: str, tmp_path: Path) -> None:
    assert (
        main(["dynamics", "--server", no_forkpoint, "--model", "other", "--questions", "2", "--out", str(tmp_path)])
        == 0
    )
    (one,) = results_of(tmp_path)["findings"]
    assert one["verdict"] == "undecided"
    assert "needs a Forkpoint" in one["cannot"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "there is no finding 'nonsense'; there are sparse-forks"),
        (["--extract", "nonsense"], "there is no extractor"),
        (["--scorer", "nonsense"], "there is no scorer"),
        (["--data", "missing.jsonl"], "missing.jsonl cannot be read"),
        (["--server", "http://127.0.0.1:9/v1", "--retries", "0"], "does not answer"),
    ],
)
def test_wrong_arguments_are_rejected(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path)]) in (1, 3)
    assert said in capsys.readouterr().err
