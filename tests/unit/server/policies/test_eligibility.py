"""Which requests can have which policies."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.policies.eligibility import (
    BATCH,
    TOKENS,
    check_branches,
    eligible_policy,
    limit_warnings,
    tree_action_of,
)
from forkpoint_server.policies.resolve import ResolvedRequest, label_policy
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.vllm_seam import SamplingParams, VLLMValidationError

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
MAX_BRANCHES = 4


def policy_of(do: dict[str, Any], shadow: bool = False) -> LabeledPolicy:
    return label_policy("it", parse_policy({"name": "it", "shadow": shadow, "rules": [{"do": do}]}))


PLAIN = policy_of({"temperature": 0.5})
ALL = policy_of({"branch": {"select": "all"}})
ONE = policy_of({"branch": {"select": "majority"}})
IN_SHADOW = policy_of({"branch": {"select": "all"}}, shadow=True)


def request(
    policy: LabeledPolicy | None, by_default: bool = False, forks: bool = False, **body: Any
) -> ResolvedRequest:
    return ResolvedRequest(
        policy, RequestOptions(forks=forks), body, False, by_default=by_default, by_request=not by_default
    )


def test_a_policy_in_shadow_runs_no_further_requests() -> None:
    assert tree_action_of(IN_SHADOW.policy) is None
    assert tree_action_of(PLAIN.policy) is None
    assert tree_action_of(ALL.policy) is not None


@pytest.mark.parametrize(
    ("policy", "path", "body"),
    [
        (None, RESPONSES, {"n": 9}),
        (PLAIN, RESPONSES, {"n": 9, "best_of": 12}),
        (IN_SHADOW, CHAT, {"n": 9}),
        (ALL, CHAT, {"n": 4}),
        (ALL, CHAT, {"n": 2, "best_of": 2}),
        (ONE, RESPONSES, {}),
        (ALL, TOKENS, {"sampling_params": {"n": 4}}),
        (ONE, TOKENS, {"sampling_params": 5}),
        (PLAIN, BATCH, {}),
    ],
)
@pytest.mark.parametrize("by_default", [False, True])
def test_a_policy_that_can_apply_is_eligible(policy: Any, path: str, body: dict[str, Any], by_default: bool) -> None:
    assert eligible_policy(path, request(policy, by_default, **body), MAX_BRANCHES) is policy


@pytest.mark.parametrize(
    ("policy", "path", "body", "field"),
    [
        (PLAIN, CHAT, {"use_beam_search": True}, "policy"),
        (PLAIN, RESPONSES, {"background": True}, "policy"),
        (ALL, RESPONSES, {}, "policy"),
        (ALL, CHAT, {"n": 5}, "n"),
        (ALL, CHAT, {"best_of": 2}, "best_of"),
        (ONE, CHAT, {"n": 2}, "n"),
        (ALL, TOKENS, {"sampling_params": {"n": 5}}, "sampling_params.n"),
        (ONE, TOKENS, {"sampling_params": {"n": 2}}, "sampling_params.n"),
        (ONE, BATCH, {}, "policy"),
    ],
)
def test_a_policy_that_cannot_apply_is_an_error_unless_it_is_the_default(
    policy: LabeledPolicy, path: str, body: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        eligible_policy(path, request(policy, **body), MAX_BRANCHES)
    assert caught.value.field == field
    assert eligible_policy(path, request(policy, by_default=True, **body), MAX_BRANCHES) is None


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", {"prompt": ["a", "b"]}), (RESPONSES, {"tools": [{"type": "function"}]})]
)
def test_a_default_that_branches_is_dropped_where_several_engine_requests_come(path: str, body: dict[str, Any]) -> None:
    assert eligible_policy(path, request(ONE, by_default=True, **body), MAX_BRANCHES) is None
    assert eligible_policy(path, request(PLAIN, by_default=True, **body), MAX_BRANCHES) is PLAIN


def test_forks_do_not_work_with_beam_search() -> None:
    with pytest.raises(InputError, match="use_beam_search"):
        eligible_policy(CHAT, request(None, forks=True, use_beam_search=True), MAX_BRANCHES)


@pytest.mark.parametrize(
    "params",
    [{"presence_penalty": 1.0}, {"frequency_penalty": 1.0}, {"repetition_penalty": 1.1}, {"bad_words": ["no"]}],
    ids=lambda params: next(iter(params)),
)
def test_parameters_that_depend_on_a_requests_own_tokens_reject_branches(params: dict[str, Any]) -> None:
    prompt = {"prompt_token_ids": [1]}
    check_branches(SamplingParams(), prompt)
    with pytest.raises(VLLMValidationError, match=next(iter(params))):
        check_branches(SamplingParams(**params), prompt)


@pytest.mark.parametrize("prompt", [{"prompt": "text"}, {"prompt_token_ids": []}, "text"])
def test_a_branch_needs_a_prompt_of_tokens(prompt: Any) -> None:
    with pytest.raises(VLLMValidationError, match="prompt of tokens"):
        check_branches(SamplingParams(), prompt)


@pytest.mark.parametrize(
    ("do", "said"),
    [
        ({"sample": {"answers": 5}}, "takes 5 answers, and this server allows 4 (--max-branches); all of them set"),
        ({"sample": {"answers": 5, "warm_up": 3}}, "takes 5 answers, and this server allows 4 (--max-branches)"),
        ({"branch": {"max_branches": 5}}, "takes up to 5 answers"),
    ],
)
def test_a_policy_that_the_server_cuts_says_so(do: dict[str, Any], said: str) -> None:
    (warning,) = limit_warnings(policy_of(do).policy, MAX_BRANCHES)
    assert warning.startswith(said)
    assert ("none is stopped" in warning) == ("all of them" in said)
    assert limit_warnings(policy_of(do).policy, 5) == ()
    assert limit_warnings(policy_of(do, shadow=True).policy, MAX_BRANCHES) == ()


def windowed(**when: Any) -> LabeledPolicy:
    rules = [{"do": {"observe": {}}}, {"when": when, "do": {"temperature": 0.5}}]
    return label_policy("it", parse_policy({"name": "it", "rules": rules}))


UNSURE = windowed(confidence_below=2.0, confidence_window=100)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"max_tokens": 99}),
        (CHAT, {"max_completion_tokens": 99, "max_tokens": 200}),
        (RESPONSES, {"max_output_tokens": 99}),
        (TOKENS, {"sampling_params": {"max_tokens": 99}}),
    ],
)
def test_a_window_that_is_never_full_is_refused(path: str, body: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is 100 tokens, which is never full in a request of at most 99") as caught:
        eligible_policy(path, request(UNSURE, **body), MAX_BRANCHES)
    assert caught.value.field == "policy.rules[1].when.confidence_window"


def test_a_window_that_can_be_full_is_not_refused() -> None:
    for body in ({"max_tokens": 100}, {}, {"max_tokens": None}, {"max_completion_tokens": 100, "max_tokens": 1}):
        assert eligible_policy(CHAT, request(UNSURE, **body), MAX_BRANCHES) is UNSURE
    assert eligible_policy(CHAT, request(PLAIN, max_tokens=1), MAX_BRANCHES) is PLAIN
    assert eligible_policy(CHAT, request(UNSURE, by_default=True, max_tokens=1), MAX_BRANCHES) is UNSURE
    calm = windowed(mean_entropy_below=0.1, mean_entropy_window=64)
    with pytest.raises(InputError, match="is 64 tokens") as caught:
        eligible_policy(CHAT, request(calm, max_tokens=63), MAX_BRANCHES)
    assert caught.value.field == "policy.rules[1].when.mean_entropy_window"
