"""What real engines sum is what they report one by one: on both model runners, with drafts, pieces and preemptions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from vllm.inputs import TokensPrompt

from forkpoint_policies.worker.last_layer import EXTENSION
from forkpoint_server.cli import PROCESSORS
from forkpoint_server.traces.trace import Trace

from .conftest import Instruct, Telemetry
from .runners import Runner, runner, speculating, write_noisy_model

THRESHOLD = 0.672
POLICIES: list[dict[str, Any]] = [
    {"rules": []},
    {"rules": [{"when": {"entropy_above": 0.5}, "do": {"temperature": 0.3}}, {"do": {"observe": {}}}]},
    {"rules": [{"do": {"suppress": {"words": ["then", "Then"]}}}]},
]
CRAMPED: dict[str, Any] = {
    "max_num_batched_tokens": 48, "max_num_seqs": 16, "num_gpu_blocks_override": 20, "max_model_len": 320,
    "enable_prefix_caching": False, "worker_extension_cls": EXTENSION,
}  # fmt: skip
NEAR_NATS = 0.05
"""In another order of batches the model's numbers are a little different."""


@pytest.fixture(scope="module", params=["V1", "V2 with a draft"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder, v2 = tmp_path_factory.mktemp("summed"), request.param != "V1"
    options = dict(CRAMPED)
    if v2:
        options["speculative_config"] = speculating(write_noisy_model(folder / "draft", noise=0.3))
    with runner(folder / "log", v2=v2, logits_processors=[PROCESSORS[v2]], **options) as started:
        yield started


def test_sums_are_those_of_the_records(
    engine: Runner,
    prompts: list[TokensPrompt],
    instruct: Instruct,
    telemetry: Telemetry,
    request: pytest.FixtureRequest,
) -> None:
    chosen = prompts[:9]

    def write(sums_above: float | None, address: str) -> list[tuple[int, ...]]:
        options = {"temperature": 0.0, "max_tokens": 150, "ignore_eos": True, "sums_above": sums_above}
        return engine.generate(
            chosen, [instruct(POLICIES[number % 3], address, **options) for number in range(len(chosen))]
        )

    single = telemetry.traces(partial(write, None))
    before = engine.counters["vllm:num_preemptions"]
    summed = telemetry.traces(partial(write, THRESHOLD))
    assert engine.counters["vllm:num_preemptions"] > before
    assert [trace.tokens for trace in summed] == [trace.tokens for trace in single]
    assert [trace.num_missing for trace in summed] == [trace.num_missing for trace in single] == [0] * len(chosen)
    for one, other in zip(single, summed, strict=True):
        agree(one, other)
    if request.node.callspec.params["engine"] == "V1":  # V2's interpreter may be so slow that steps seem to stop
        assert any(len(trace.profile().position) < len(trace.tokens) for trace in summed)


def agree(one: Trace, other: Trace) -> None:
    first, second = one.sums(THRESHOLD), other.sums(THRESHOLD)
    assert first.tokens.sum() == second.tokens.sum() == len(one.tokens)
    assert abs(first.counts - second.counts).sum() <= 4, "some entropies lie beside a bound"
    assert first.totals == pytest.approx(second.totals, abs=NEAR_NATS * 10, rel=NEAR_NATS)
