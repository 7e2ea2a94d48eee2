"""Trees run on one data-parallel rank each, and the engine's capacity counts the ranks that this server has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.config import ParallelConfig

from forkpoint_server.engine.engine import BranchLimits, InterveningEngine

MAX_NUM_SEQS = 8  # requests that each rank runs


@pytest.mark.parametrize(
    ("options", "ranks"),
    [
        ({}, 1),
        ({"data_parallel_size": 4}, 4),
        ({"data_parallel_size": 4, "data_parallel_size_local": 2, "data_parallel_hybrid_lb": True}, 2),
        ({"data_parallel_size": 4, "data_parallel_size_local": 1, "data_parallel_external_lb": True}, 1),
    ],
)
def test_trees_rotate_over_the_ranks_of_this_server(options: dict[str, Any], ranks: int) -> None:
    """With an external load balancer vLLM's server reaches only its own ranks, numbered from 0."""
    scheduler = SimpleNamespace(max_num_seqs=MAX_NUM_SEQS)
    config = SimpleNamespace(parallel_config=ParallelConfig(**options), scheduler_config=scheduler)
    engine: Any = InterveningEngine(SimpleNamespace(vllm_config=config, is_sleeping=None), BranchLimits(16, 1000))  # type: ignore[arg-type]
    found = [engine.rank_options().get("data_parallel_rank") for _ in range(2 * ranks)]
    assert found == ([None] * 2 if ranks == 1 else list(range(ranks)) * 2)
    assert engine.background_budget().max_running == ranks * MAX_NUM_SEQS // 2
