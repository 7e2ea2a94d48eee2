"""Forkpoint answers as stock vLLM does: the same calls to both, field by field and token by token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from forkpoint_server.cli import DEMO_ARGUMENTS

from tests.bench.servers import both

from .alike import ask
from .calls import CALLS, Call

ARGUMENTS = (
    "--model", *DEMO_ARGUMENTS, "--dtype", "float32", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
    "--enable-server-load-tracking",
)  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of stock vLLM and of Forkpoint, which run with the same arguments."""
    folder = tmp_path_factory.mktemp("both")
    with both(folder, ARGUMENTS, (*ARGUMENTS, "--database-url", f"sqlite:///{folder / 'own.sqlite3'}")) as (stock, own):
        yield stock.url, own.url


@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_without_a_policy(servers: tuple[str, str], call: Call) -> None:
    stock, own = servers
    assert ask(own, call) == ask(stock, call)


OBSERVED = [call for call in CALLS if call.generates]


@pytest.mark.soak
@pytest.mark.parametrize("call", OBSERVED, ids=[call.name for call in OBSERVED])
def test_with_observe(servers: tuple[str, str], call: Call) -> None:
    stock, own = servers
    assert ask(own, call, "observe") == ask(stock, call)


def test_calls_have_names_of_their_own() -> None:
    assert len({call.name for call in CALLS}) == len(CALLS)
