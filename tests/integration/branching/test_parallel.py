"""Several ranks: in tensor parallelism all decide alike and one reports; in data parallelism each has its requests."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import attempt, attempts
from tests.processes.forkpoint_server import Server, serving

PARALLEL = {
    "tensor": (("--tensor-parallel-size", "2"), "0|1"),
    "data": (("--data-parallel-size", "2"), "nobind"),
}
"""vLLM's arguments, and how its CPU build binds the threads of two ranks."""

POLICIES = ("nowait", "nowait.placebo", "budget-force", "entropix")


@pytest.fixture(scope="module", params=["tensor", pytest.param("data", marks=pytest.mark.soak)])
def parallel_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments, binding = PARALLEL[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    environment = {"VLLM_CPU_OMP_THREADS_BIND": binding}
    if request.param == "data":  # metrics in files, as processes share them
        (folder / "metrics").mkdir()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(folder / "metrics")
    with serving(folder, *arguments, environment=environment) as running:
        yield running


def test_the_tokens_are_those_of_one_rank_and_are_counted_once(parallel_server: Server, client: openai.OpenAI) -> None:
    """The same seeds and policies, one request at a time; then a batch, of which every token's record arrives."""
    other = openai.OpenAI(base_url=parallel_server.api, api_key="none", max_retries=0)
    puzzles = held_out_puzzles("easy", 4)
    steps = parallel_server.metrics()["forkpoint_step_seconds_count"]
    tokens = 0
    for policy, puzzle in zip(POLICIES, puzzles, strict=True):
        here, there = (attempt(one, puzzle, policy, seed=5, max_tokens=300) for one in (client, other))
        assert (there.reasoning, there.answer) == (here.reasoning, here.answer), policy
        assert set(there.summary["interventions"]) == set(here.summary["interventions"])
        for action, found in there.summary["interventions"].items():
            assert found == pytest.approx(here.summary["interventions"][action], rel=0.01, abs=0.001), action
        assert there.summary["complete"]
        tokens += there.summary["tokens"]
    # a prompt may be evaluated once more than it has tokens to draw; two reporting ranks would report twice as much
    assert tokens <= parallel_server.metrics()["forkpoint_step_seconds_count"] - steps < 1.5 * tokens
    before = parallel_server.metrics()
    many = attempts(other, held_out_puzzles("easy", 24), "nowait")
    assert all(one.summary["complete"] for one in many)
    after = parallel_server.metrics()

    def moved(name: str) -> float:
        return sum(value - before.get(key, 0.0) for key, value in after.items() if key.startswith(f"{name}{{"))

    num_tokens = sum(one.summary["tokens"] for one in many)
    assert moved("forkpoint_tokens_total") == moved("vllm:generation_tokens_total") == num_tokens
    assert moved("forkpoint_token_entropy_nats_count") == num_tokens
    assert moved("forkpoint_requests_total") == moved("forkpoint_request_seconds_count") == 24
    other.close()


def test_a_tree_stays_on_one_rank(parallel_server: Server) -> None:
    """Where the trunk is, its prefix is cached."""
    here = openai.OpenAI(base_url=parallel_server.api, api_key="none", max_retries=0)
    generated = "vllm:generation_tokens_total"
    for seed in range(3):
        before = parallel_server.metrics()
        response = here.chat.completions.create(
            model="countdown", messages=[{"role": "user", "content": held_out_puzzles("hard", 1)[0].prompt}], n=4,
            seed=seed, max_tokens=120,
            extra_body={"policy": {"rules": [{"when": {"entropy_above": 0.3}, "do": {"branch": {}}}]}},
        )  # fmt: skip
        assert len(response.choices) == 4
        after = parallel_server.metrics()
        active = [name for name in after if name.startswith(generated) and after[name] > before.get(name, 0)]
        assert len(active) == 1
    here.close()
