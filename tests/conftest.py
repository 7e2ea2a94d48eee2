"""The servers that API and browser tests share: each is started once."""

from collections.abc import Iterator

import pytest

from tests.serving import ADMIN_KEY, API_KEY, Server, serving, write_random_model

CALM = """\
name: calm
description: Lowers reflection words at forks.
rules:
  - when: {entropy_above: fork, region: reasoning}
    do: {suppress: {connectors: [reflection], bias: -8.0}}
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`forkpoint serve`, as one would start it: the embedded model."""
    with serving(tmp_path_factory.mktemp("embedded")) as running:
        yield running


@pytest.fixture(scope="session")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`forkpoint serve SOME/MODEL` with arguments of vLLM's and of ours."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "policies").mkdir()
    (folder / "policies" / "calm.yaml").write_text(CALM)
    model = write_random_model(folder / "model")
    with serving(
        folder, str(model), "--load-format", "dummy", "--served-model-name", "random", "--max-model-len", "256", "--enforce-eager",
        "--api-key", API_KEY, "--admin-api-key", ADMIN_KEY, "--policies", str(folder / "policies"), "--policy", "calm",
    ) as running:  # fmt: skip
        yield running
