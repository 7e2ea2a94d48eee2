"""Policies on vLLM's offline `LLM`: the same effect as that of the parameters which the server makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.inputs import TokensPrompt
from vllm.sampling_params import StructuredOutputsParams

from forkpoint_policies.spec import InputError
from forkpoint_server.demo import WEIGHTS
from forkpoint_server.offline import OfflinePolicies, open_llm
from tests.integration.engine.conftest import OPTIONS, Instruct

NOWAIT: dict[str, Any] = {"rules": [{"do": {"suppress": {"words": ["wait", "hmm"]}}}]}
TEMPER: dict[str, Any] = {"rules": [{"when": {"region": "reasoning"}, "do": {"temperature": 1.5}}]}
FORCE: dict[str, Any] = {"rules": [{"when": {"after_token": 3, "at_most": 1}, "do": {"force": {"text": " Wait"}}}]}


@pytest.fixture(scope="module")
def offline() -> Iterator[OfflinePolicies]:
    options = {name: value for name, value in OPTIONS.items() if name != "model"}
    llm = open_llm(str(WEIGHTS), max_num_seqs=64, **options)
    yield OfflinePolicies(llm, reasoning_parser="qwen3", fork_threshold=0.672)
    llm.llm_engine.engine_core.shutdown()


def generate(llm: LLM, prompts: list[TokensPrompt], params: list[SamplingParams]) -> list[tuple[int, ...]]:
    return [tuple(output.outputs[0].token_ids) for output in llm.generate(prompts, params, use_tqdm=False)]


@pytest.mark.parametrize("policy", [NOWAIT, TEMPER, FORCE], ids=["suppress", "temperature", "force"])
def test_a_prompt_gets_the_answer_that_the_server_gives_it(
    offline: OfflinePolicies, prompts: list[TokensPrompt], instruct: Instruct, policy: dict[str, Any]
) -> None:
    sampling: dict[str, Any] = {"seed": 5, "temperature": 1.0, "max_tokens": 60}
    expected = generate(offline.llm, prompts, [instruct(policy, **sampling) for _ in prompts])
    plain = generate(offline.llm, prompts, [SamplingParams(**sampling) for _ in prompts])
    tokens = [prompt["prompt_token_ids"] for prompt in prompts]
    found = generate(offline.llm, prompts, offline.params(policy, tokens, SamplingParams(**sampling)))
    assert found == expected
    assert found != plain


def test_a_named_policy_and_a_plain_request_share_a_batch(
    offline: OfflinePolicies, prompts: list[TokensPrompt]
) -> None:
    sampling = SamplingParams(seed=5, temperature=0.0, max_tokens=60)
    expected = generate(offline.llm, prompts[:2], [sampling, sampling])
    (own,) = offline.params("observe", [prompts[0]["prompt_token_ids"]], sampling)
    assert generate(offline.llm, prompts[:2], [own, sampling]) == expected


def test_a_banned_word_is_not_begun_in_structured_outputs(offline: OfflinePolicies) -> None:
    prompts = [TokensPrompt(prompt_token_ids=offline.llm.get_tokenizer().encode("x</think>"))] * 6
    allowed = StructuredOutputsParams(choice=["Wait here", "Then", "I wait"])
    sampling = [
        SamplingParams(seed=seed, temperature=1.0, max_tokens=12, structured_outputs=allowed)
        for seed in range(len(prompts))
    ]
    tokens = [prompts[0]["prompt_token_ids"]]
    banned = [offline.params(NOWAIT, tokens, one)[0] for one in sampling]
    texts = [output.outputs[0].text for output in offline.llm.generate(prompts, banned, use_tqdm=False)]
    assert set(texts) == {"Then"}
    assert all(one.structured_outputs is allowed for one in sampling), "the caller's are not changed"
    assert allowed.choice == ["Wait here", "Then", "I wait"]


def test_structured_outputs_of_banned_words_only_are_refused(offline: OfflinePolicies) -> None:
    only = SamplingParams(structured_outputs=StructuredOutputsParams(choice=["Wait", "wait!"]))
    with pytest.raises(VLLMValidationError, match="has a word that the policy bans"):
        offline.params(NOWAIT, [[5, 6]], only)


@pytest.mark.parametrize(
    ("policy", "sampling", "field"),
    [("branch", {}, "policy"), ("nowait", {"n": 2}, "n"), ("no-such", {}, "policy"), ("none", {}, "policy")],
)
def test_what_does_not_work_offline_is_an_error(
    offline: OfflinePolicies, policy: str, sampling: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as raised:
        offline.params(policy, [[5, 6]], SamplingParams(**sampling))
    assert raised.value.field == field
