"""The server of this folder, in place of the one that the other tests share: its default policy branches."""

from collections.abc import Iterator

import openai
import pytest

from tests.processes.forkpoint_server import ADMIN_KEY, ONE_PROCESS, Server, serving
from tests.processes.span_collector import Collector, collecting


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the server's OpenTelemetry spans go."""
    with collecting() as running:
        yield running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Server]:
    """The embedded model, with a default policy that branches and few branches at once.

    It has a parser of tool calls, the route by which requests are aborted, and a key for those who change things.
    """
    environment = {**ONE_PROCESS, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    with serving(
        tmp_path_factory.mktemp("branching"), "--policy", "branch-at-forks", "--max-live-branches", "8",
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enable-scale-out",
        "--otlp-traces-endpoint", collector.endpoint, "--admin-api-key", ADMIN_KEY, environment=environment,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0) as client:
        yield client
