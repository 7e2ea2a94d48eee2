"""Steering and recycling with speculative decoding: to the bit as without, and as in transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from vllm import SamplingParams
from vllm.inputs import TokensPrompt

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_server.cli import PROCESSORS
from forkpoint_server.engine.hidden_states import PUT_ARTEFACT, TAKE_STATES

from .careless_processor import KEY, CarelessProcessor
from .conftest import Instruct, Telemetry
from .runners import Runner, runner, speculating, write_noisy_model
from .steered import HOOKED, RECYCLED, VOCABULARY, Reference, steering_options
from .test_steering import (
    AFTER_SENTENCES,
    AGAIN,
    AGAIN_HERE,
    AT_FORKS,
    BOTH_CHANGES,
    BY_ENTROPY,
    BY_POSITION,
    CALM,
    ENDING,
    FORK_NATS,
    HERE,
    TOLERANCE_NATS,
    TWO_TOKENS,
    VECTORS,
    entropies,
    second_passes,
)
from .test_steering_runners import NOISE_NATS, farthest, in_process

BY_RANK: dict[str, Any] = {
    "rules": [
        {
            "when": {"effective_rank_above": 4.0, "rank_window": 8, "rank_stride": 3},
            "do": {"steer": {"vector": "calm", "scale": -1.0, "tokens": 2}},
        }
    ]
}
POLICIES = (
    AT_FORKS, TWO_TOKENS, HERE, AFTER_SENTENCES, BY_ENTROPY, BY_POSITION, AGAIN, AGAIN_HERE, BOTH_CHANGES, BY_RANK,
    None, None,
)  # fmt: skip
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 40, "ignore_eos": True, "logprobs": VOCABULARY}
CARELESS = f"{CarelessProcessor.__module__}:{CarelessProcessor.__name__}"
ACCEPTED = 0.1, 0.95  # a draft that is always right or never would prove little
STATES = ["layer.1", "layer.2", "last"]
COMMON: dict[str, Any] = {"max_logprobs": VOCABULARY, **steering_options()}
SMALL: dict[str, Any] = {"num_gpu_blocks_override": 17, "max_model_len": 256, "enable_prefix_caching": False}


@pytest.fixture(scope="module")
def served(target: ServedModel) -> ServedModel:
    return replace(target, artefacts=VECTORS, hidden_layers=HOOKED, recycle_layers=RECYCLED)


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The `speculative_config` of a draft model: the embedded one with noise."""
    return speculating(write_noisy_model(tmp_path_factory.mktemp("model") / "draft", noise=0.3))


@contextmanager
def drafting_runner(log: Path, speculative_config: dict[str, Any], **options: Any) -> Iterator[Runner]:
    with runner(
        log, v2=True, logits_processors=[PROCESSORS[True]], speculative_config=speculative_config, **COMMON, **options
    ) as found:
        for vector in VECTORS.values():
            assert not any(found.call(PUT_ARTEFACT, vector.raw))
        yield found


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory, draft: dict[str, Any]) -> Iterator[dict[str, Runner]]:
    """Engines on the V2 model runner without a draft model and with one."""
    folder = tmp_path_factory.mktemp("drafts")
    with (
        runner(folder / "plain.log", v2=True, logits_processors=[PROCESSORS[True]], **COMMON) as plain,
        runner(
            folder / "drafts.log", v2=True, logits_processors=[CARELESS], speculative_config=draft, **COMMON
        ) as drafting,
    ):
        for one in (plain, drafting):
            for vector in VECTORS.values():
                assert not any(one.call(PUT_ARTEFACT, vector.raw))
        yield {"without drafts": plain, "with drafts": drafting}


def test_it_is_as_without_drafts_to_the_bit(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel
) -> None:
    few = prompts[: len(POLICIES)]
    params = [instruct(one, served=served, **GREEDY) for one in POLICIES]
    tokens, expected = in_process(runners["without drafts"], few, params)
    again, found = in_process(runners["with drafts"], few, [instruct(one, served=served, **GREEDY) for one in POLICIES])
    assert again == tokens
    assert farthest(found, expected) == 0.0
    assert ACCEPTED[0] < runners["with drafts"].acceptance < ACCEPTED[1]


@pytest.mark.parametrize("policy", [AT_FORKS, BY_ENTROPY, AGAIN, TWO_TOKENS], ids=["steer", "scale", "again", "text"])
def test_without_the_rejection_it_would_not_be(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    policy: dict[str, Any],
) -> None:  # fmt: skip
    few = prompts[:4]
    params = [instruct(policy, served=served, **GREEDY) for _ in few]
    _, expected = in_process(runners["without drafts"], few, params)
    careless = [instruct(policy, served=served, **GREEDY) for _ in few]
    for one in careless:
        one.extra_args = {**(one.extra_args or {}), KEY: True}
    _, found = in_process(runners["with drafts"], few, careless)
    assert farthest(found, expected) > 100 * TOLERANCE_NATS


@pytest.mark.parametrize("policy", [AT_FORKS, HERE, AFTER_SENTENCES], ids=["next", "here", "here, after sentences"])
def test_it_is_the_model_with_the_vector_added(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    reference: Reference, policy: dict[str, Any],
) -> None:  # fmt: skip
    (own,), (found,) = in_process(runners["with drafts"], prompts[1:2], [instruct(policy, served=served, **GREEDY)])
    if policy is AT_FORKS:
        at = np.flatnonzero(entropies(found) > FORK_NATS).tolist()
        vector = {2: -2.0 * CALM.tensors["layer.2"]}
    elif policy is HERE:
        at = [position - 1 + ahead for position in range(8, 40, 8) for ahead in range(2)]
        vector = {layer: 1.5 * VECTORS["both"].tensors[f"layer.{layer}"] for layer in (1, 2)}
    else:
        ends = [served.vocabulary.tokens[token].endswith(ENDING.encode()) for token in own[:-1]]
        at = np.flatnonzero(ends).tolist()
        vector = {2: -2.0 * CALM.tensors["layer.2"]}
    assert len(at) >= 2
    prompt = prompts[1]["prompt_token_ids"]
    assert np.abs(reference.logprobs(prompt, own, dict.fromkeys(at, vector)) - found).max() < TOLERANCE_NATS
    assert np.abs(reference.logprobs(prompt, own, {}) - found).max() > 100 * TOLERANCE_NATS


@pytest.mark.parametrize("policy", [AGAIN, AGAIN_HERE, BOTH_CHANGES], ids=["next", "here", "with a vector"])
def test_it_is_the_model_with_a_layer_run_again(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    reference: Reference, policy: dict[str, Any],
) -> None:  # fmt: skip
    (own,), (found,) = in_process(runners["with drafts"], prompts[1:2], [instruct(policy, served=served, **GREEDY)])
    again, added = second_passes(policy, own, found, served)
    prompt = prompts[1]["prompt_token_ids"]
    assert all(len(one) >= 3 for one in again.values())
    assert np.abs(reference.logprobs(prompt, own, added, again) - found).max() < TOLERANCE_NATS
    assert np.abs(reference.logprobs(prompt, own, {}, {}) - found).max() > 100 * TOLERANCE_NATS


@pytest.mark.parametrize("policy", [AT_FORKS, HERE, AGAIN, AGAIN_HERE], ids=["next", "here", "again", "again, here"])
def test_no_other_answer_changes_by_a_bit(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    policy: dict[str, Any],
) -> None:  # fmt: skip
    few, drafting = prompts[:4], runners["with drafts"]
    tokens, before = in_process(drafting, few, [instruct(None, **GREEDY) for _ in few])
    mixed = [instruct(policy if number == 1 else None, served=served, **GREEDY) for number in range(4)]
    changed, found = in_process(drafting, few, mixed)
    assert np.abs(found[1] - before[1]).max() > TOLERANCE_NATS
    for number in (0, 2, 3):
        assert changed[number] == tokens[number]
        assert (found[number] == before[number]).all()


@pytest.mark.parametrize("policy", [AT_FORKS, HERE, AGAIN, BY_RANK], ids=["next", "here", "again", "by rank"])
def test_the_states_are_those_without_drafts(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    policy: dict[str, Any],
) -> None:  # fmt: skip
    """Of hooked layers and of the last, at every position, of a request beside others."""
    everywhere: dict[str, Any] = {"rules": [*policy["rules"], {"do": {"observe": {}}}]}

    def states(one: Runner) -> dict[str, Any]:
        reading = instruct(everywhere, served=served, kept_states=STATES, **GREEDY)
        others = [instruct(None, **GREEDY), instruct(TWO_TOKENS, served=served, **GREEDY)]
        in_process(one, prompts[:3], [others[0], reading, others[1]])
        payload = PolicyPayload.of(reading.extra_args)
        assert payload is not None
        return dict(load(one.call(TAKE_STATES, payload.handle)[0]))

    expected, found = states(runners["without drafts"]), states(runners["with drafts"])
    known = found["positions"] < 40  # drafts may be read after the end
    assert found["positions"][known].tolist() == expected["positions"].tolist() == list(range(40))
    assert found["rules"][known].tolist() == expected["rules"].tolist()
    for name in STATES:
        assert (found[name][known] == expected[name]).all(), name


def test_the_records_are_those_without_drafts(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    telemetry: Telemetry,
) -> None:  # fmt: skip
    """Where a rejected draft is drawn again, what was measured after it does not count."""
    changing: Sequence[dict[str, Any]] = [one for one in POLICIES if one is not None]
    few = prompts[: len(changing)]

    def write(one: Runner, address: str) -> list[tuple[int, ...]]:
        params: list[SamplingParams] = [instruct(policy, address, served=served, **GREEDY) for policy in changing]
        return in_process(one, few, params)[0]

    expected = telemetry.traces(partial(write, runners["without drafts"]))
    found = telemetry.traces(partial(write, runners["with drafts"]))
    for one, other in zip(found, expected, strict=True):
        own, theirs = one.profile(), other.profile()
        assert own.position.tolist() == theirs.position.tolist() == list(range(40))
        assert own.entropy.tobytes() == theirs.entropy.tobytes()
        assert own.fired.tolist() == theirs.fired.tolist()
    by_rank = [trace.profile().hidden[:, 0] for trace in (found[-1], expected[-1])]
    assert by_rank[0].tobytes() == by_rank[1].tobytes()
    assert expected[-1].profile().fired.any()


def test_what_is_preempted_is_changed_alike(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    draft: dict[str, Any], tmp_path: Path,
) -> None:  # fmt: skip
    """Computed again with its drafts, within the noise of float32 between prompts and single tokens."""
    few, longer = prompts[: len(POLICIES)], {**GREEDY, "max_tokens": 64}
    params = [instruct(one, served=served, **longer) for one in POLICIES]
    tokens, expected = in_process(runners["without drafts"], few, params)
    with drafting_runner(tmp_path / "log", draft, max_num_batched_tokens=64, **SMALL) as cramped:
        again, found = in_process(cramped, few, params)
        assert cramped.counters["vllm:num_preemptions"] > 0
        assert ACCEPTED[0] < cramped.acceptance < ACCEPTED[1]
    assert again == tokens
    assert farthest(found, expected) < NOISE_NATS


@pytest.mark.parametrize("how", ["compiled", "two ranks"])
def test_it_is_as_without_drafts(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    draft: dict[str, Any], tmp_path: Path, how: str,
) -> None:  # fmt: skip
    few = prompts[: len(POLICIES)]
    params = [instruct(one, served=served, **GREEDY) for one in POLICIES]
    tokens, expected = in_process(runners["without drafts"], few, params)
    cache = tmp_path / "cache"
    options: dict[str, Any] = (
        {"enforce_eager": False, "environment": {"VLLM_CACHE_ROOT": str(cache)}}
        if how == "compiled"
        else {"tensor_parallel_size": 2, "environment": {"VLLM_CPU_OMP_THREADS_BIND": "0|1"}}
    )
    with drafting_runner(tmp_path / "log", draft, **options) as drafting:
        assert len(drafting.call(PUT_ARTEFACT, CALM.raw)) == options.get("tensor_parallel_size", 1)
        again, found = in_process(drafting, few, params)
        assert ACCEPTED[0] < drafting.acceptance < ACCEPTED[1]
    assert [*cache.glob("torch_compile_cache/*")] or how == "two ranks"
    assert again == tokens
    assert farthest(found, expected) < TOLERANCE_NATS
