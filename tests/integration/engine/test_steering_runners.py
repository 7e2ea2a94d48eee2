"""Steering and recycling on vLLM's V2 model runner: as on V1, and nobody else's answer changes by a bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_server.cli import PROCESSORS
from forkpoint_server.engine.hidden_states import PUT_ARTEFACT

from .conftest import Instruct, running
from .runners import Runner, runner
from .steered import HOOKED, RECYCLED, VOCABULARY, Logprobs, Reference, logprobs_of, put, steering_options
from .test_steering import (
    AFTER_SENTENCES,
    AGAIN,
    AGAIN_HERE,
    AT_FORKS,
    BOTH_CHANGES,
    BY_ENTROPY,
    BY_POSITION,
    CALM,
    FORK_NATS,
    HERE,
    TOLERANCE_NATS,
    TWO_TOKENS,
    VECTORS,
    entropies,
)

NOISE_NATS = 1e-5
"""Of float32, between the attention kernels of the two runners."""
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24, "ignore_eos": True, "logprobs": VOCABULARY}
POLICIES = (
    AT_FORKS, TWO_TOKENS, HERE, AFTER_SENTENCES, BY_ENTROPY, BY_POSITION, AGAIN, AGAIN_HERE, BOTH_CHANGES, None,
)  # fmt: skip
OPTIONS: dict[str, Any] = {"max_logprobs": VOCABULARY, **steering_options()}


@pytest.fixture(scope="module")
def served(target: ServedModel) -> ServedModel:
    return replace(target, artefacts=VECTORS, hidden_layers=HOOKED, recycle_layers=RECYCLED)


@pytest.fixture(scope="module")
def v1() -> Iterator[LLM]:
    for llm in running(**OPTIONS, logits_processors=[PROCESSORS[False]], enable_prefix_caching=False):
        put(llm, VECTORS.values())
        yield llm


@contextmanager
def second_runner(log: Path, **options: Any) -> Iterator[Runner]:
    with runner(log, v2=True, logits_processors=[PROCESSORS[True]], **OPTIONS, **options) as found:
        for one in VECTORS.values():
            assert found.call(PUT_ARTEFACT, one.raw) == [""]
        yield found


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with second_runner(tmp_path_factory.mktemp("v2") / "log", enable_prefix_caching=False) as found:
        yield found


Answers = tuple[list[tuple[int, ...]], list[Logprobs]]


def on_v1(llm: LLM, prompts: Sequence[TokensPrompt], params: Sequence[SamplingParams]) -> Answers:
    outputs = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return [tuple(one.token_ids) for one in outputs], [logprobs_of(one) for one in outputs]


def on_v2(one: Runner, prompts: Sequence[TokensPrompt], params: Sequence[SamplingParams]) -> Answers:
    outputs = one.complete(prompts, params)
    return [tuple(one.token_ids) for one in outputs], [logprobs_of(one) for one in outputs]


def farthest(found: Sequence[Logprobs], expected: Sequence[Logprobs]) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(found, expected, strict=True))


def test_both_runners_change_the_same(
    v1: LLM, v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel
) -> None:
    few = prompts[: len(POLICIES)]
    plain, without = on_v1(v1, few, [instruct(None, **GREEDY) for _ in few])
    tokens, expected = on_v1(v1, few, [instruct(one, served=served, **GREEDY) for one in POLICIES])
    again, found = on_v2(v2, few, [instruct(one, served=served, **GREEDY) for one in POLICIES])
    assert again == tokens
    assert farthest(found, expected) < NOISE_NATS
    changed = [bool(np.abs(one - other).max() > TOLERANCE_NATS) for one, other in zip(found, without, strict=True)]
    assert changed == [one is not None for one in POLICIES]
    assert again[-1] == plain[-1]


def test_what_is_computed_in_pieces_or_again_is_changed_alike(
    v1: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, tmp_path: Path
) -> None:
    """An engine with so little room that it computes prompts in pieces, and preempts and resumes requests."""
    few, longer = prompts[: len(POLICIES)], {**GREEDY, "max_tokens": 64}
    params = [instruct(one, served=served, **longer) for one in POLICIES]
    tokens, expected = on_v1(v1, few, params)
    small: dict[str, Any] = {
        "max_num_batched_tokens": 32, "max_num_seqs": 16, "num_gpu_blocks_override": 17, "max_model_len": 256,
        "enable_prefix_caching": False,
    }  # fmt: skip
    with second_runner(tmp_path / "log", **small) as cramped:
        again, found = on_v2(cramped, few, params)
        assert cramped.counters["vllm:num_preemptions"] > 0
    assert again == tokens
    assert farthest(found, expected) < NOISE_NATS


def test_it_is_the_model_with_the_vector_added(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel
) -> None:
    (own,), (found,) = on_v2(v2, prompts[:1], [instruct(AT_FORKS, served=served, **GREEDY)])
    at = np.flatnonzero(entropies(found) > FORK_NATS).tolist()
    assert len(at) >= 2
    added = {position: {2: -2.0 * CALM.tensors["layer.2"]} for position in at}
    reference, prompt = Reference(), prompts[0]["prompt_token_ids"]
    assert np.abs(reference.logprobs(prompt, own, added) - found).max() < TOLERANCE_NATS
    assert np.abs(reference.logprobs(prompt, own, {}) - found).max() > 100 * TOLERANCE_NATS


@pytest.mark.parametrize("policy", [AT_FORKS, HERE, AGAIN, AGAIN_HERE], ids=["next", "here", "again", "again, here"])
def test_no_other_answer_changes_by_a_bit(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, policy: dict[str, Any]
) -> None:
    few = prompts[:4]
    tokens, before = on_v2(v2, few, [instruct(None, **GREEDY) for _ in few])
    mixed = [instruct(policy if number == 1 else None, served=served, **GREEDY) for number in range(4)]
    changed, found = on_v2(v2, few, mixed)
    assert np.abs(found[1] - before[1]).max() > TOLERANCE_NATS
    for number in (0, 2, 3):
        assert changed[number] == tokens[number]
        assert (found[number] == before[number]).all()
    shadow = {**policy, "shadow": True}
    unchanged, after = on_v2(v2, few, [instruct(shadow, served=served, **GREEDY) for _ in few])
    assert unchanged == tokens
    assert all((one == other).all() for one, other in zip(after, before, strict=True))
