"""A branch in a real engine that fails by an exception ends alone; the first answer's failure is the request's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.polling import running, until
from tests.processes.forkpoint_server import Server, serving

from . import failing_server

pytestmark = pytest.mark.soak
TREE: dict[str, Any] = {
    "rules": [{"when": {"entropy_above": "fork"}, "do": {"branch": {"width": 2, "depth": 1, "min_gap": 4}}}]
}
BODY: dict[str, Any] = {
    "model": "countdown", "messages": [{"role": "user", "content": "Use 8, 1, 9, 25 to make 66."}], "policy": TREE,
    "n": 6, "max_tokens": 400, "ignore_eos": True, "seed": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("failing")
    command = folder / "failing-forkpoint"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{failing_server.__file__}" "$@"\n')
    command.chmod(0o755)
    with serving(folder, command=command) as running_server:
        yield running_server


def send(server: Server, name: str, **options: Any) -> httpx.Response:
    answer = httpx.post(
        f"{server.api}/chat/completions", json={**BODY, **options}, headers={"X-Request-Id": name}, timeout=300
    )
    until(lambda: not running(server))
    return answer


def nodes(server: Server, name: str) -> list[dict[str, Any]]:
    found = httpx.get(f"{server.api}/forks/chatcmpl-{name}").raise_for_status().json()["tree"]["nodes"]
    return list(found)


def test_every_second_branch_fails(failing: Server) -> None:
    answer = send(failing, "some-fails-branches").raise_for_status().json()
    found = nodes(failing, "some-fails-branches")
    assert len(found) == len(answer["choices"]) == 6
    ended = [node["ended"] for node in found]
    assert ended[0] == "length"
    assert sorted(ended[1:]) in (["error"] * 2 + ["length"] * 3, ["error"] * 3 + ["length"] * 2)
    for node, choice in zip(found, answer["choices"], strict=True):
        assert choice["finish_reason"] == ("abort" if node["ended"] == "error" else "length")
        assert (node["tokens_generated"] < 50) == (node["ended"] == "error")
    failed = [
        value for name, value in failing.metrics().items() if "branches_total" in name and 'outcome="error"' in name
    ]
    assert sum(failed) == ended.count("error")
    assert "made to fail" in failing.log.read_text()


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_answer_fails(failing: Server, stream: bool) -> None:
    """As a request without a tree does: with an error, in its stream if that has started."""
    plain = send(failing, f"plain-{stream}-fails-trunk", policy="observe", n=1, stream=stream)
    tree = send(failing, f"tree-{stream}-fails-trunk", stream=stream)
    assert tree.status_code == plain.status_code == (200 if stream else 500)
    for answer in (plain, tree):
        assert "made to fail" in answer.text
        assert "[DONE]" in answer.text or not stream
    assert httpx.get(f"{failing.url}/health").status_code == 200


def test_later_trees_have_all_their_branches(failing: Server) -> None:
    send(failing, "well").raise_for_status()
    assert [node["ended"] for node in nodes(failing, "well")] == ["length"] * 6
