"""What the documentation says to run does run, page by page and in its order, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.processes.forkpoint_server import Server, serving
from tools.documented import BLOCKS, ELSEWHERE, LONG, RUN, Block

BY_PAGE = {
    page: [block for block in BLOCKS if block.page == page and not block.starts_with(ELSEWHERE)]
    for page in dict.fromkeys(
        block.page for block in BLOCKS if block.language in RUN and not block.starts_with(ELSEWHERE)
    )
}
LONG_PAGES = [page for page, found in BY_PAGE.items() if any(block.starts_with(LONG) for block in found)]
MAX_SECONDS = 1200


@pytest.fixture
def traces_gone(server: Server) -> Iterator[None]:
    """What a page leaves on the server that others use is removed: experiments and stored policies."""
    yield
    with openai.OpenAI(base_url=server.api, api_key="none") as client:
        for one in client.get("/experiments", cast_to=dict[str, Any])["data"]:
            client.patch(f"/experiments/{one['name']}", body={"status": "stopped"}, cast_to=object)
            client.delete(f"/experiments/{one['name']}", cast_to=object)
        for one in client.get("/policies", cast_to=dict[str, Any])["data"]:
            if not one["builtin"] and not one["name"].endswith(".placebo"):
                client.delete(f"/policies/{one['name']}", cast_to=object)


@pytest.mark.usefixtures("traces_gone")
@pytest.mark.parametrize("page", BY_PAGE)
def test_a_page(server: Server, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_all(server, [block for block in BY_PAGE[page] if not block.starts_with(LONG)])


@pytest.mark.soak
@pytest.mark.parametrize("page", LONG_PAGES)
def test_a_page_with_what_takes_long(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a server of its own, as `forkpoint calibrate` changes what later requests mean."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "server").mkdir()
    with serving(tmp_path / "server") as server:
        run_all(server, BY_PAGE[page])


def test_the_readmes_program_shows_what_it_says(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = (block for block in BY_PAGE["README.md"] if block.language == "python")
    with programs(server) as run_python:
        names = run_python(program)
    assert names["response"].forkpoint["policy"] == "nowait"
    assert "'fired'" in capsys.readouterr().out


def run_all(server: Server, found: Iterable[Block]) -> None:
    """Run a page's blocks in the current folder, where the files that it shows are."""
    found = tuple(found)
    for block in found:
        if block.file:
            Path(block.file).write_text(block.text)
    with programs(server) as run_python:
        for block in found:
            if block.language == "python":
                run_python(block)
            elif block.language == "bash":
                run_bash(block, server)


@contextmanager
def programs(server: Server) -> Iterator[Callable[[Block], dict[str, Any]]]:
    """What runs a program with the names that those before it left, and returns them.

    Their clients are closed: a program's names are a cycle, in which the garbage collector may find a client's socket
    before the client, and warn of it in another test.
    """
    names: dict[str, Any] = {}
    clients: list[openai.OpenAI] = []

    def run(block: Block) -> dict[str, Any]:
        try:
            exec(compile(at(server, block.text), block.name, "exec"), names)  # our own documentation, not input
        finally:
            clients.extend(value for value in names.values() if isinstance(value, openai.OpenAI))
        return names

    try:
        yield run
    finally:
        for client in clients:
            client.close()


def run_bash(block: Block, server: Server) -> None:
    """Run commands as in a terminal; each must end well, and an error's status of a server is a failure of `curl`."""
    Path(".curlrc").write_text("fail-with-body\nshow-error\n")
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "CURL_HOME": str(Path.cwd()), "FORKPOINT_SERVER": server.api,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", at(server, block.text)],
        env=environment, capture_output=True, text=True, timeout=MAX_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.name}\n{done.stdout}{done.stderr}"


def at(server: Server, text: str) -> str:
    """A text with this server's address for the one that the documentation takes as its example."""
    return text.replace("http://127.0.0.1:8000", server.url).replace(
        "localhost:8000", server.url.removeprefix("http://")
    )
