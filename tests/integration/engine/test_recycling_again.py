"""Positions that the model computes a second time, in real engines with either of vLLM's model runners."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm import LLM
from vllm.inputs import TokensPrompt
from vllm.v1.metrics.reader import Counter

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_server.cli import PROCESSORS

from .conftest import Instruct, running
from .runners import runner
from .steered import RECYCLED, VOCABULARY, Logprobs, Reference, logprobs_of, steering_options

LAYER, FORK_NATS, TOLERANCE_NATS = 2, 0.3, 1e-4
LENGTH = 40
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": LENGTH, "ignore_eos": True, "logprobs": VOCABULARY}
OPTIONS: dict[str, Any] = {
    "max_logprobs": VOCABULARY, "logits_processors": [PROCESSORS[False]], **steering_options((), RECYCLED)
}  # fmt: skip


def again(when: dict[str, Any], layer: int = LAYER) -> dict[str, Any]:
    return {"when": when, "do": {"recycle": {"layer": layer, "from": "again"}}}


EVERY: dict[str, Any] = {"rules": [again({"every": 7})]}
AT_FORKS: dict[str, Any] = {"rules": [again({"entropy_above": FORK_NATS}, layer=0)]}
BOTH_LAYERS: dict[str, Any] = {"rules": [again({"every": 3}, layer=0), again({"every": 6})]}
FEW: dict[str, Any] = {"rules": [again({"entropy_above": FORK_NATS, "at_most": 2})]}
POLICIES = {"by position": EVERY, "at forks": AT_FORKS, "two layers": BOTH_LAYERS, "at most": FEW}
Answers = tuple[list[tuple[int, ...]], list[Logprobs]]


@pytest.fixture(scope="module")
def served(target: ServedModel) -> ServedModel:
    return replace(target, recycle_layers=RECYCLED)


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    yield from running(**OPTIONS)


def answers(llm: LLM, prompts: list[TokensPrompt], params: list[Any]) -> Answers:
    outputs = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return [tuple(one.token_ids) for one in outputs], [logprobs_of(one) for one in outputs]


def layers_at(policy: dict[str, Any], prompt: list[int], answer: tuple[int, ...], model: Reference) -> dict[int, int]:
    """The positions that are computed again, and with which layer."""
    if policy is EVERY:
        return dict.fromkeys(range(0, len(answer), 7), LAYER)
    if policy is BOTH_LAYERS:
        return {at: 0 if at % 6 else LAYER for at in range(0, len(answer), 3)}
    plain = model.logprobs(prompt, answer, {})
    forks = np.flatnonzero(-(np.exp(plain) * plain).sum(axis=1) > FORK_NATS).tolist()
    return dict.fromkeys(forks, 0) if policy is AT_FORKS else dict.fromkeys(forks[:2], LAYER)


@pytest.mark.parametrize("name", POLICIES)
def test_the_token_is_drawn_from_the_second_forward_and_nothing_else_changes(
    llm: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference, name: str
) -> None:
    """In a batch with others, of which none is changed by a bit."""
    few, policy = prompts[:4], POLICIES[name]
    tokens, before = answers(llm, few, [instruct(None, **GREEDY) for _ in few])
    params = [instruct(policy if number == 1 else None, served=served, **GREEDY) for number in range(4)]
    changed, found = answers(llm, few, params)
    for number in (0, 2, 3):
        assert changed[number] == tokens[number]
        assert (found[number] == before[number]).all()
    prompt, own = few[1]["prompt_token_ids"], changed[1]
    at = layers_at(policy, prompt, own, reference)
    assert len(at) >= 2
    assert np.abs(reference.drawn_again(prompt, own, at) - found[1]).max() < TOLERANCE_NATS
    unchanged = np.abs(reference.logprobs(prompt, own, {}) - found[1]).max(axis=1)
    assert (unchanged > TOLERANCE_NATS).nonzero()[0].tolist() == sorted(at)
    assert unchanged.max() > 100 * TOLERANCE_NATS


def test_alone_as_in_a_batch_and_by_its_seed(
    llm: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel
) -> None:
    policies = list(POLICIES.values())
    sampled = {**GREEDY, "temperature": 1.0, "seed": 3}
    tokens, found = answers(llm, prompts[:4], [instruct(one, served=served, **sampled) for one in policies])
    for number, policy in enumerate(policies):
        alone, own = answers(llm, prompts[number : number + 1], [instruct(policy, served=served, **sampled)])
        assert alone == [tokens[number]]
        assert (own[0] == found[number]).all()


def test_what_is_stored_of_it_is_the_model_without_the_rule(
    llm: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference
) -> None:
    """The next turn finds it in the prefix cache, without a salt."""
    prompt = prompts[5]["prompt_token_ids"]
    (answer,), _ = answers(llm, [prompts[5]], [instruct(EVERY, served=served, **{**GREEDY, "max_tokens": 100})])
    longer = [*prompt, *answer]
    outputs = llm.generate([TokensPrompt(prompt_token_ids=longer)], [instruct(None, **GREEDY)], use_tqdm=False)
    assert (outputs[0].num_cached_tokens or 0) > len(prompt)
    own = outputs[0].outputs[0]
    expected = reference.logprobs(longer, own.token_ids, {})
    assert np.abs(expected - logprobs_of(own)).max() < TOLERANCE_NATS


def test_what_is_computed_in_pieces_or_again(
    llm: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel
) -> None:
    """An engine with so little room that it computes prompts in pieces, and preempts and resumes requests."""
    policies = [[*POLICIES.values()][number % 4] for number in range(len(prompts))]
    longer = {**GREEDY, "max_tokens": 100, "logprobs": 1}
    tokens, _ = answers(llm, prompts, [instruct(one, served=served, **longer) for one in policies])
    small = {"max_num_batched_tokens": 48, "max_num_seqs": 16, "num_gpu_blocks_override": 40}
    for cramped in running(**OPTIONS, **small, enable_prefix_caching=False):
        pieces, _ = answers(cramped, prompts, [instruct(one, served=served, **longer) for one in policies])
        metrics = [one for one in cramped.get_metrics() if isinstance(one, Counter)]
        assert sum(one.value for one in metrics if one.name == "vllm:num_preemptions") > 0
        assert pieces == tokens


def test_on_the_other_model_runner(
    llm: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference,
    tmp_path: Path,
) -> None:  # fmt: skip
    policies = [*POLICIES.values(), None]
    few = prompts[: len(policies)]
    tokens, _ = answers(llm, few, [instruct(one, served=served, **GREEDY) for one in policies])
    own = {**OPTIONS, "logits_processors": [PROCESSORS[True]]}
    with runner(tmp_path / "log", v2=True, **own) as v2:
        outputs = v2.complete(few, [instruct(one, served=served, **GREEDY) for one in policies])
    assert [tuple(one.token_ids) for one in outputs] == tokens
    for policy, prompt, output in zip(POLICIES.values(), few, outputs, strict=False):
        ids = prompt["prompt_token_ids"]
        expected = reference.drawn_again(
            ids, output.token_ids, layers_at(policy, ids, tuple(output.token_ids), reference)
        )
        assert np.abs(expected - logprobs_of(output)).max() < TOLERANCE_NATS


@pytest.mark.slow
def test_compiled(llm: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel) -> None:
    policies = [*POLICIES.values(), None]
    few = prompts[: len(policies)]
    tokens, found = answers(llm, few, [instruct(one, served=served, **GREEDY) for one in policies])
    for compiled in running(**OPTIONS, enforce_eager=False):
        own, logprobs = answers(compiled, few, [instruct(one, served=served, **GREEDY) for one in policies])
        assert own == tokens
        assert max(np.abs(one - other).max() for one, other in zip(found, logprobs, strict=True)) < TOLERANCE_NATS
