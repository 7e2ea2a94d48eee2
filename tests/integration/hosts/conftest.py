"""Two hosts, and a client of the server on the first. Run by `make test-hosts`, as root."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import openai
import pytest

from tests.processes.forkpoint_server import Server
from tests.processes.hosts import Host, hosts, missing


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Host]]:
    if reason := missing():
        pytest.skip(f"two hosts: {reason}")
    with hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture(scope="module")
def own_client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0, timeout=300) as client:
        yield client
