"""The parameters of a tree's requests are those that the engine can decode, whatever the client set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.sampling_params import RequestOutputKind, SamplingParams

from forkpoint_server.branching.interface import ChildStart, TrialSampling
from forkpoint_server.engine.derived_params import bounded_params, child_params, derived_params
from forkpoint_server.vllm_seam import VLLMValidationError

PROBE = ChildStart([1] * 7, 5, 0, 1, 1, trial=TrialSampling(5), first=False)
BRANCH = ChildStart([1] * 7, 5, 0, 1, 1, first=False)


def child(params: SamplingParams, start: ChildStart, needs_logprobs: bool = False) -> SamplingParams:
    return child_params(params, start, {}, needs_logprobs)


def test_a_probe_needs_no_fewest_tokens() -> None:
    """It is shorter than the `min_tokens` of its request, which the engine would be unable to decode."""
    own = child(SamplingParams(min_tokens=60, max_tokens=200, ignore_eos=True), PROBE)
    assert (own.min_tokens, own.max_tokens, own.temperature, own.ignore_eos) == (0, 5, 0.0, False)


def test_a_trial_answer_has_parameters_of_its_own() -> None:
    """Its stop strings, temperature and penalty are the policy's; what ends the client's answers still ends it."""
    sampled = TrialSampling(20, ("}.",), (9,), temperature=0.6, top_p=0.95, presence_penalty=1.0)
    params = SamplingParams(
        max_tokens=200, temperature=1.3, top_k=7, min_p=0.2, stop=["Wait"], stop_token_ids=[4], thinking_token_budget=3
    )
    own = child(params, replace(PROBE, trial=sampled))
    assert (own.stop, own.stop_token_ids, own.temperature, own.top_p) == (["}."], [4, 9], 0.6, 0.95)
    assert (own.presence_penalty, own.top_k, own.min_p, own.thinking_token_budget) == (1.0, 0, 0.0, None)
    assert (own.seed, own.logprobs) == (5, 0), "the probabilities of what was sampled, and the same again for the seed"
    assert child(params, PROBE).logprobs is None


def test_a_branch_has_what_its_shared_tokens_left() -> None:
    own = child(SamplingParams(min_tokens=60, max_tokens=200, n=4, seed=3), BRANCH)
    assert (own.min_tokens, own.max_tokens, own.n, own.seed) == (53, 193, 1, 5)
    assert own.output_kind == RequestOutputKind.DELTA
    assert child(SamplingParams(min_tokens=5, max_tokens=200), BRANCH).min_tokens == 0


def test_a_continuation_within_a_budget_has_no_more_fewest_tokens_than_tokens() -> None:
    own = child(SamplingParams(min_tokens=60, max_tokens=200), replace(BRANCH, max_tokens=9))
    assert (own.min_tokens, own.max_tokens) == (9, 9)


def test_only_the_first_request_reports_on_the_prompt() -> None:
    """The others read the shared tokens from the prefix cache, which a request for the prompt's logprobs would skip."""
    params = SamplingParams(prompt_logprobs=2)
    assert child(params, replace(BRANCH, tokens=[], first=True)).prompt_logprobs == 2
    own = child(params, BRANCH)
    assert own.prompt_logprobs is None
    assert own.skip_reading_prefix_cache is False


@pytest.mark.parametrize(
    ("requested", "found"), [({}, 0), ({"logprobs": 3}, 3), ({"logprob_token_ids": [4, 5], "logprobs": 2}, 2)]
)
def test_the_policy_gets_log_probabilities(requested: dict[str, Any], found: int) -> None:
    assert child(SamplingParams(**requested), BRANCH, needs_logprobs=True).logprobs == found


def test_requested_token_ids_are_log_probabilities_enough() -> None:
    assert child(SamplingParams(logprob_token_ids=[4, 5]), BRANCH, needs_logprobs=True).logprobs is None


def test_answers_fit_after_the_prompt() -> None:
    assert bounded_params(SamplingParams(max_tokens=None), 30).max_tokens == 30
    assert bounded_params(SamplingParams(max_tokens=50), 30).max_tokens == 30
    assert bounded_params(SamplingParams(max_tokens=20), 30).max_tokens == 20
    with pytest.raises(VLLMValidationError, match="min_tokens"):
        bounded_params(SamplingParams(max_tokens=None, min_tokens=31), 30)


@pytest.mark.parametrize(
    "changes", [{"min_tokens": 17}, {"max_tokens": 0}, {"n": 0}, {"extra_args": {"seed": 2**64}}, {"stop": [""]}]
)
def test_what_the_engine_cannot_decode_does_not_leave(changes: dict[str, Any]) -> None:
    with pytest.raises(VLLMValidationError):
        derived_params(SamplingParams(), **changes)


LENGTHS = st.integers(0, 40)
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "min_tokens": LENGTHS, "stop": st.lists(st.text(min_size=1, max_size=3), max_size=2),
        "seed": st.integers(-(2**63), 2**64 - 1), "logprobs": st.integers(-1, 20),
        "prompt_logprobs": st.integers(-1, 5), "temperature": st.floats(0, 2), "top_p": st.floats(0.01, 1),
        "top_k": st.integers(-1, 50), "min_p": st.floats(0, 1), "ignore_eos": st.booleans(),
        "stop_token_ids": st.lists(st.integers(0, 500), max_size=3), "include_stop_str_in_output": st.booleans(),
        "presence_penalty": st.floats(-2, 2), "repetition_penalty": st.floats(0.1, 3),
        "thinking_token_budget": st.integers(0, 50), "bad_words": st.lists(st.text(min_size=1), max_size=2),
        "logit_bias": st.dictionaries(st.integers(0, 500), st.floats(-100, 100), max_size=2),
    },
)  # fmt: skip


@given(PARAMS, LENGTHS, st.integers(0, 50), st.booleans(), st.none() | st.integers(1, 50), st.booleans())
def test_whatever_a_client_sets_can_be_decoded(
    fields: dict[str, Any], more: int, shared: int, is_trial: bool, longest: int | None, needs_logprobs: bool
) -> None:
    params = SamplingParams(**fields, max_tokens=max(1, fields.get("min_tokens", 0) + more))
    trial = TrialSampling(5, ("\n",), (3,), 0.6, 0.95, 1.0) if is_trial else None
    start = ChildStart([1] * min(shared, (params.max_tokens or 1) - 1), 5, 0, 1, 1, None, trial, longest, first=False)
    own = child_params(bounded_params(params, 90), start, {"key": b"payload"}, needs_logprobs)
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(own), type=SamplingParams)
    assert (decoded.max_tokens, decoded.min_tokens) == (own.max_tokens, own.min_tokens)
