"""What must stay true, token for token, on a real vLLM."""

from __future__ import annotations

from typing import Any

import pytest
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt
from vllm.v1.metrics.reader import Counter

from .conftest import Instruct
from .stateful_policies import STATEFUL

NEVER: dict[str, Any] = {
    "rules": [{"when": {"entropy_above": 49.0}, "do": {"suppress": {"connectors": ["reflection"]}}}]
}
OBSERVE: dict[str, Any] = {"rules": [{"do": {"observe": {}}}]}
NOWAIT: dict[str, Any] = {
    "rules": [{"when": {"region": "reasoning"}, "do": {"suppress": {"words": ["wait", "hmm", "alternatively"]}}}]
}
TEMPER: dict[str, Any] = {"rules": [{"when": {"entropy_above": "fork"}, "do": {"temperature": 1.4}}]}
SHADOW: dict[str, Any] = {**NOWAIT, "shadow": True}
ONCE: dict[str, Any] = {"rules": [{"when": {"at_most": 1}, "do": {"suppress": {"words": ["let's"]}}}]}
SAMPLED: dict[str, Any] = {"temperature": 1.0, "seed": 7}
GREEDY: dict[str, Any] = {"temperature": 0.0}
SHORT: dict[str, Any] = {"max_tokens": 100}
"""For requests that are alone in the engine, which is slow."""


def generate(llm: LLM, prompts: list[TokensPrompt], params: list[SamplingParams]) -> list[tuple[int, ...]]:
    return [tuple(output.outputs[0].token_ids) for output in llm.generate(prompts, params, use_tqdm=False)]


def alone(llm: LLM, prompts: list[TokensPrompt], params: list[SamplingParams]) -> list[tuple[int, ...]]:
    return [generate(llm, [prompt], [one])[0] for prompt, one in zip(prompts, params, strict=True)]


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("policy", [None, NEVER, OBSERVE, SHADOW], ids=["none", "never", "observe", "shadow"])
def test_without_an_effect_the_tokens_are_vllms(
    stock: LLM,
    intervening: LLM,
    prompts: list[TokensPrompt],
    instruct: Instruct,
    policy: dict[str, Any] | None,
    options: dict[str, Any],
) -> None:
    expected = generate(stock, prompts, [instruct(None, **options) for _ in prompts])
    assert generate(intervening, prompts, [instruct(policy, **options) for _ in prompts]) == expected


@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_alone_and_in_a_mixed_batch_as_far_as_vllm(
    stock: LLM, intervening: LLM, prompts: list[TokensPrompt], instruct: Instruct, options: dict[str, Any]
) -> None:
    """16 requests under five policies and none: where stock answers alike alone and batched, so do we."""
    plain = [instruct(None, **options, **SHORT) for _ in prompts]
    unchanged = [
        one == many for one, many in zip(alone(stock, prompts, plain), generate(stock, prompts, plain), strict=True)
    ]
    assert sum(unchanged) >= 12, "stock vLLM itself depends on the batch: this machine cannot decide"
    policies = [None, NOWAIT, TEMPER, OBSERVE, ONCE, SHADOW]

    def mixed() -> list[SamplingParams]:
        return [instruct(policies[number % len(policies)], **options, **SHORT) for number in range(len(prompts))]

    together, single = generate(intervening, prompts, mixed()), alone(intervening, prompts, mixed())
    same = [one == many for one, many in zip(single, together, strict=True)]
    assert [
        number for number, (ours, theirs) in enumerate(zip(same, unchanged, strict=True)) if theirs and not ours
    ] == []


def test_a_suppressed_word_never_comes(
    intervening: LLM, prompts: list[TokensPrompt], instruct: Instruct, tokenizer: Any
) -> None:
    found = [
        tokenizer.decode(tokens)
        for tokens in generate(intervening, prompts, [instruct(NOWAIT, **SAMPLED) for _ in prompts])
    ]
    assert not [
        text
        for text in found
        if any(word in text.partition("</think>")[0].lower() for word in ("wait", "hmm", "alternatively"))
    ]


def test_slots_are_used_again_and_hold_nothing_of_the_last_request(
    intervening: LLM, prompts: list[TokensPrompt], instruct: Instruct
) -> None:
    """320 requests through 256 slots; the same request before and after them."""
    first = generate(intervening, prompts[:1], [instruct(ONCE, **SAMPLED)])
    for start in range(0, 320, 64):
        many = [prompts[number % len(prompts)] for number in range(start, start + 64)]
        params = [instruct(NOWAIT if number % 2 else ONCE, **SAMPLED) for number in range(64)]
        for one in params:
            one.max_tokens = 3
        generate(intervening, many, params)
    assert generate(intervening, prompts[:1], [instruct(ONCE, **SAMPLED)]) == first


def test_prompts_in_pieces_and_preemption_leave_the_state_right(
    intervening: LLM, cramped: LLM, prompts: list[TokensPrompt], instruct: Instruct
) -> None:
    """Greedy, as vLLM's CPU build dies when the prompt of a request with a seed is computed in pieces."""
    policies = [ONCE, NOWAIT, *STATEFUL]

    def mixed() -> list[SamplingParams]:
        return [instruct(policies[number % len(policies)], **GREEDY) for number in range(len(prompts))]

    assert generate(cramped, prompts, mixed()) == generate(intervening, prompts, mixed())
    assert counter(cramped, "vllm:num_preemptions") > 0


def test_prompts_found_in_the_prefix_cache_leave_the_state_right(
    intervening: LLM, prompts: list[TokensPrompt], instruct: Instruct
) -> None:
    """A prompt of which blocks are cached is computed from its middle; its answer is that of one computed whole."""
    for prompt, policy in zip(prompts, STATEFUL, strict=False):
        long = TokensPrompt(prompt_token_ids=prompts[0]["prompt_token_ids"] * 4 + prompt["prompt_token_ids"])
        assert intervening.reset_prefix_cache()
        whole, found = (
            intervening.generate(long, instruct(policy, **SAMPLED, **SHORT), use_tqdm=False)[0] for _ in range(2)
        )
        assert (whole.num_cached_tokens or 0) == 0 < (found.num_cached_tokens or 0)
        assert found.outputs[0].token_ids == whole.outputs[0].token_ids, policy


def test_an_aborted_request_leaves_nothing_behind(
    intervening: LLM, prompts: list[TokensPrompt], instruct: Instruct
) -> None:
    """Requests are aborted in the middle of forced texts and windows; those that get their slots are as before."""

    def write() -> list[tuple[int, ...]]:
        return generate(intervening, prompts[:6], [instruct(policy, **SAMPLED) for policy in STATEFUL[:6]])

    expected, engine = write(), intervening.llm_engine
    names = [f"aborted-{number}" for number in range(32)]
    for number, name in enumerate(names):
        engine.add_request(name, prompts[number % 16], instruct(STATEFUL[number % len(STATEFUL)], **SAMPLED))
    for _ in range(20):
        engine.step()
    engine.abort_request(names)
    assert write() == expected


def counter(llm: LLM, name: str) -> float:
    """One of vLLM's counters."""
    return sum(metric.value for metric in llm.get_metrics() if metric.name == name and isinstance(metric, Counter))
