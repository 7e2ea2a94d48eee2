"""What the API tests share beside the servers."""

from collections.abc import Iterator

import openai
import pytest

from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving
from tests.processes.postgresql import postgresql
from tests.processes.span_collector import Collector, collecting


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[openai.OpenAI]:
    """An unmodified openai SDK."""
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the branching server's OpenTelemetry spans go."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def branching_server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    """The embedded model, with a default policy that branches and few branches at once.

    It has a parser of tool calls, and the route by which requests are aborted.
    """
    environment = {**ONE_PROCESS, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    with serving(
        tmp_path_factory.mktemp("branching"), "--policy", "branch", "--max-live-branches", "8",
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-scale-out",
        "--otlp-traces-endpoint", collector.endpoint, environment=environment,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(scope="session")
def branching_client(branching_server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=branching_server.api, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty database of a real PostgreSQL."""
    with postgresql(tmp_path_factory.mktemp("postgresql")) as running:
        yield running.new_database()
