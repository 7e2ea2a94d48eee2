"""What the API tests share beside the servers."""

from collections.abc import Iterator

import openai
import pytest

from tests.processes.forkpoint_server import Server
from tests.processes.postgresql import postgresql


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[openai.OpenAI]:
    """An unmodified openai SDK."""
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database of a real PostgreSQL."""
    with postgresql(tmp_path_factory.mktemp("postgresql")) as running:
        yield running.new_database()
