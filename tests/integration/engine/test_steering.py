"""Steering and recycling in real engines: what is changed, of which tokens, and of nobody else."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from vllm import LLM
from vllm.inputs import TokensPrompt
from vllm.v1.metrics.reader import Counter

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.spec import parse_policy
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.cli import PROCESSORS
from forkpoint_server.engine.cache_salt import salted_prompt

from .conftest import Instruct, running
from .steered import HOOKED, RECYCLED, VOCABULARY, Logprobs, Reference, logprobs_of, put, steering_options, vector_of

CALM = vector_of(seed=1, layers=(2,))
BOTH = vector_of(seed=2, layers=(1, 2))
VECTORS = {"calm": CALM, "both": BOTH}
OPTIONS: dict[str, Any] = {"max_logprobs": VOCABULARY, "logits_processors": [PROCESSORS[False]]}
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 40, "ignore_eos": True, "logprobs": VOCABULARY}
TOLERANCE_NATS = 1e-4
FORK_NATS = 0.3
PREEMPTIONS = "vllm:num_preemptions"

EVERY: dict[str, Any] = {
    "rules": [{"when": {"every": 10, "after_token": 10}, "do": {"steer": {"vector": "both", "scale": 1.5}}}]
}
AT_FORKS: dict[str, Any] = {
    "rules": [{"when": {"entropy_above": FORK_NATS}, "do": {"steer": {"vector": "calm", "scale": -2.0}}}]
}
TWO_TOKENS: dict[str, Any] = {"rules": [{"when": {"every": 8}, "do": {"steer": {"vector": "calm", "tokens": 3}}}]}
HERE: dict[str, Any] = {
    "rules": [{"when": {"every": 8}, "do": {"steer": {"vector": "both", "scale": 1.5, "tokens": 2, "from": "here"}}}]
}
BY_ENTROPY: dict[str, Any] = {
    "rules": [
        {
            "when": {"entropy_above": FORK_NATS},
            "do": {"steer": {"vector": "calm", "scale": {"low": 2.0, "high": -14.0}}},
        }
    ]
}
BY_POSITION: dict[str, Any] = {
    "rules": [
        {
            "when": {"every": 4},
            "do": {"steer": {"vector": "calm", "scale": {"shape": "linear", "start": 0.0, "end": 4.0, "over": 40}}},
        }
    ]
}
ENDING = "."
AFTER_SENTENCES: dict[str, Any] = {
    "rules": [
        {
            "when": {"previous": {"endings": [ENDING]}},
            "do": {"steer": {"vector": "calm", "scale": -2.0, "from": "here"}},
        }
    ]
}
AGAIN: dict[str, Any] = {
    "rules": [{"when": {"entropy_above": FORK_NATS}, "do": {"recycle": {"layer": 2, "tokens": 2}}}]
}
AGAIN_HERE: dict[str, Any] = {
    "rules": [
        {"when": {"previous": {"endings": [ENDING]}}, "do": {"recycle": {"layer": 0, "from": "here"}}},
        {"when": {"every": 8}, "do": {"recycle": {"layer": 2, "from": "here"}}},
    ]
}
BOTH_CHANGES: dict[str, Any] = {
    "rules": [
        {"when": {"every": 8}, "do": {"steer": {"vector": "calm", "scale": 1.5, "tokens": 2}}},
        {"when": {"every": 8}, "do": {"recycle": {"layer": 2, "from": "here"}}},
    ]
}
OBSERVE: dict[str, Any] = {"rules": [{"do": {"observe": {}}}]}
START = ChildStart([], 0, 0, 0, 0)
NEVER: dict[str, Any] = {
    "rules": [
        {"when": {"entropy_above": 49.0}, "do": {"steer": {"vector": "calm"}}},
        {"when": {"after_token": 900}, "do": {"steer": {"vector": "calm", "from": "here"}}},
        {"when": {"after_token": 900}, "do": {"recycle": {"layer": 2}}},
    ]
}


@pytest.fixture(scope="module")
def served(target: ServedModel) -> ServedModel:
    return replace(target, artefacts=VECTORS, hidden_layers=HOOKED, recycle_layers=RECYCLED)


@pytest.fixture(scope="module")
def steering() -> Iterator[LLM]:
    for llm in running(**OPTIONS, **steering_options()):
        put(llm, VECTORS.values())
        yield llm


@pytest.fixture(scope="module")
def plain() -> Iterator[LLM]:
    """Stock vLLM."""
    yield from running(max_logprobs=VOCABULARY)


@pytest.fixture(scope="module")
def cramped() -> Iterator[LLM]:
    small = {"max_num_batched_tokens": 48, "max_num_seqs": 16, "num_gpu_blocks_override": 40}
    for llm in running(**OPTIONS, **steering_options(), **small, enable_prefix_caching=False):
        put(llm, VECTORS.values())
        yield llm


def answers(llm: LLM, prompts: list[TokensPrompt], params: list[Any]) -> tuple[list[tuple[int, ...]], list[Logprobs]]:
    """The tokens of each answer, and the log probabilities of the whole vocabulary at each.

    With a salt of its own, as a server's requests have: nothing is found of what other tests have steered.
    """
    salt = secrets.token_hex(8)
    own = [TokensPrompt(prompt_token_ids=prompt["prompt_token_ids"], cache_salt=salt) for prompt in prompts]
    return answers_from_cache(llm, own, params)


def answers_from_cache(
    llm: LLM, prompts: list[TokensPrompt], params: list[Any]
) -> tuple[list[tuple[int, ...]], list[Logprobs]]:
    """The same, with the prompts' own salts."""
    outputs = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return [tuple(one.token_ids) for one in outputs], [logprobs_of(one) for one in outputs]


def with_one_changed(
    llm: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, policy: dict[str, Any]
) -> tuple[list[tuple[int, ...]], list[Logprobs]]:
    """The answers where the second request has the policy, of which none of the others is changed by a bit."""
    tokens, before = answers(llm, prompts, [instruct(None, **GREEDY) for _ in prompts])
    mixed = [instruct(policy if number == 1 else None, served=served, **GREEDY) for number in range(len(prompts))]
    changed, found = answers(llm, prompts, mixed)
    for number in {*range(len(prompts))} - {1}:
        assert changed[number] == tokens[number]
        assert (found[number] == before[number]).all()
    return changed, found


def entropies(logprobs: Logprobs) -> Any:
    return -(np.exp(logprobs) * logprobs).sum(axis=1)


def second_passes(
    policy: dict[str, Any], answer: Sequence[int], logprobs: Logprobs, served: ServedModel
) -> tuple[dict[int, set[int]], dict[int, dict[int, Any]]]:
    """For which tokens of an answer these policies run which layer again, by layer, and what they add at others."""
    count, added = len(answer), {}
    before_multiples = set(range(7, count - 1, 8))
    if policy is AGAIN:
        forks = np.flatnonzero(entropies(logprobs) > FORK_NATS).tolist()
        again = {2: {one for at in forks for one in (at, at + 1) if one < count}}
    elif policy is AGAIN_HERE:
        ends = {at for at, token in enumerate(answer[:-1]) if served.vocabulary.tokens[token].endswith(ENDING.encode())}
        again = {0: ends - before_multiples, 2: before_multiples}  # the last rule's layer
    else:
        again = {2: before_multiples}
        added = {
            one: {2: (1.5 * CALM.tensors["layer.2"]).astype(np.float32)}
            for at in range(0, count - 1, 8)
            for one in (at, at + 1)
        }
    return again, added


def off_in_the_next_turn(
    ask: Callable[[list[TokensPrompt], list[Any]], tuple[list[tuple[int, ...]], list[Logprobs]]],
    prompt: list[int], policy: dict[str, Any], salted: bool, instruct: Instruct, served: ServedModel,
    reference: Reference,
) -> float:  # fmt: skip
    """How far the log probabilities are off that `ask` returns where the prompt has an answer under the policy."""
    first: Any = TokensPrompt(prompt_token_ids=prompt)
    if salted:
        first = salted_prompt(first, compile_policy(parse_policy(policy), served).program, "key", START, prompt)
    options = {**GREEDY, "max_tokens": 100, "logprobs": 1}
    (changed,), _ = ask([first], [instruct(policy, served=served, **options)])
    longer = [*prompt, *changed]
    options = {**GREEDY, "max_tokens": 8}
    (tokens,), (found,) = ask([TokensPrompt(prompt_token_ids=longer)], [instruct(None, **options)])
    return float(np.abs(reference.logprobs(longer, tokens, {}) - found).max())


@pytest.mark.parametrize(
    ("policy", "vector", "scale"),
    [
        (EVERY, BOTH, 1.5), (AT_FORKS, CALM, -2.0), (TWO_TOKENS, CALM, 1.0), (HERE, BOTH, 1.5),
        (AFTER_SENTENCES, CALM, -2.0),
    ],
    ids=["by position", "at forks", "several tokens", "from here", "from here, after sentences"],
)  # fmt: skip
def test_it_is_the_model_with_the_vector_added(
    steering: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference,
    policy: dict[str, Any], vector: Any, scale: float,
) -> None:  # fmt: skip
    """In a batch with others, of which none is changed by a bit."""
    steered_tokens, found = with_one_changed(steering, prompts[:4], instruct, served, policy)
    if policy is EVERY:
        at = list(range(10, 40, 10))
    elif policy is TWO_TOKENS:
        at = [position + ahead for position in range(0, 40, 8) for ahead in range(3)]
    elif policy is HERE:
        at = [position - 1 + ahead for position in range(8, 40, 8) for ahead in range(2)]
    elif policy is AFTER_SENTENCES:
        ends = [served.vocabulary.tokens[token].endswith(ENDING.encode()) for token in steered_tokens[1][:-1]]
        at = np.flatnonzero(ends).tolist()
    else:
        at = np.flatnonzero(entropies(found[1]) > FORK_NATS).tolist()
    assert len(at) >= 3
    added = {
        one: {layer: scale * vector.tensors[f"layer.{layer}"] for layer in vector.layers} for one in at if one < 40
    }
    prompt = prompts[1]["prompt_token_ids"]
    expected = reference.logprobs(prompt, steered_tokens[1], added)
    assert np.abs(expected - found[1]).max() < TOLERANCE_NATS
    unsteered = reference.logprobs(prompt, steered_tokens[1], {})
    assert np.abs(unsteered - found[1]).max() > 100 * TOLERANCE_NATS


@pytest.mark.parametrize("policy", [BY_ENTROPY, BY_POSITION], ids=["by entropy", "by position"])
def test_it_is_the_model_with_the_vector_added_at_changing_scales(
    steering: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference,
    policy: dict[str, Any],
) -> None:  # fmt: skip
    tokens, found = answers(steering, prompts[:2], [instruct(one, served=served, **GREEDY) for one in (policy, None)])
    if policy is BY_ENTROPY:
        measured = entropies(found[0])
        scales = {
            at: 2.0 - 16.0 * measured[at] / np.log(VOCABULARY) for at in np.flatnonzero(measured > FORK_NATS).tolist()
        }
        assert min(scales.values()) < 0 < max(scales.values())
    else:
        scales = {at: at / 10 for at in range(4, 40, 4)}
    assert len(scales) >= 3
    added = {at: {2: (scale * CALM.tensors["layer.2"]).astype(np.float32)} for at, scale in scales.items() if at < 39}
    prompt = prompts[0]["prompt_token_ids"]
    assert np.abs(reference.logprobs(prompt, tokens[0], added) - found[0]).max() < TOLERANCE_NATS
    assert np.abs(reference.logprobs(prompt, tokens[0], {}) - found[0]).max() > 100 * TOLERANCE_NATS
    plain, before = answers(steering, prompts[1:2], [instruct(None, **GREEDY)])
    assert plain == [tokens[1]]
    assert (before[0] == found[1]).all()


@pytest.mark.parametrize("policy", [AGAIN, AGAIN_HERE, BOTH_CHANGES], ids=["next", "here", "with a vector"])
def test_it_is_the_model_with_a_layer_run_again(
    steering: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference,
    policy: dict[str, Any],
) -> None:  # fmt: skip
    """In a batch with others, of which none is changed by a bit."""
    changed, found = with_one_changed(steering, prompts[:4], instruct, served, policy)
    own = changed[1]
    again, added = second_passes(policy, own, found[1], served)
    assert all(len(one) >= 3 for one in again.values())
    prompt = prompts[1]["prompt_token_ids"]
    assert np.abs(reference.logprobs(prompt, own, added, again) - found[1]).max() < TOLERANCE_NATS
    for layer in again:  # each of the changes can be seen
        others = {one: tokens for one, tokens in again.items() if one != layer}
        assert np.abs(reference.logprobs(prompt, own, added, others) - found[1]).max() > 100 * TOLERANCE_NATS


def test_alone_as_in_a_batch(
    steering: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel
) -> None:
    policies = (EVERY, BY_ENTROPY, AFTER_SENTENCES, AGAIN_HERE, None)
    tokens, found = answers(steering, prompts[:5], [instruct(one, served=served, **GREEDY) for one in policies])
    for number in (1, 2, 3):
        one = instruct(policies[number], served=served, **GREEDY)
        alone, own = answers(steering, prompts[number : number + 1], [one])
        assert alone == [tokens[number]]
        assert (own[0] == found[number]).all()


@pytest.mark.parametrize(
    "policy", [None, NEVER, {**EVERY, "shadow": True}, {**HERE, "shadow": True}, {**AGAIN, "shadow": True}],
    ids=["none", "never", "shadow", "shadow from here", "shadow, a layer again"],
)  # fmt: skip
def test_hooks_that_add_nothing_change_no_bit_of_stock_vllm(
    plain: LLM, steering: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel,
    policy: dict[str, Any] | None,
) -> None:  # fmt: skip
    few = prompts[:4]
    expected, before = answers(plain, few, [instruct(None, **GREEDY) for _ in few])
    tokens, found = answers(steering, few, [instruct(policy, served=served, **GREEDY) for _ in few])
    assert tokens == expected
    assert all((one == other).all() for one, other in zip(found, before, strict=True))


def test_what_is_computed_in_pieces_or_again_is_steered_alike(
    steering: LLM, cramped: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel
) -> None:
    """An engine with so little room that it computes prompts in pieces, and preempts and resumes requests."""
    various = EVERY, AT_FORKS, TWO_TOKENS, HERE, AFTER_SENTENCES, BY_ENTROPY, BY_POSITION, AGAIN, AGAIN_HERE
    policies = [various[number % len(various)] for number in range(len(prompts))]
    longer = {**GREEDY, "max_tokens": 100, "logprobs": 1}
    tokens, found = answers(steering, prompts, [instruct(one, served=served, **longer) for one in policies])
    again, pieces = answers(cramped, prompts, [instruct(one, served=served, **longer) for one in policies])
    preemptions = [one.value for one in cramped.get_metrics() if isinstance(one, Counter) and one.name == PREEMPTIONS]
    assert sum(preemptions) > 0
    assert again == tokens
    for one, other in zip(found, pieces, strict=True):
        known = np.isfinite(one) & np.isfinite(other)
        assert known.any(axis=1).all()
        assert np.abs(one[known] - other[known]).max() < TOLERANCE_NATS


@pytest.mark.parametrize(
    ("policy", "one", "other"), [(TWO_TOKENS, 5, 6), (HERE, 7, 8), (AGAIN, 9, 10)],
    ids=["from next", "from here", "a layer again"],
)  # fmt: skip
def test_what_was_stored_of_a_steered_answer_is_found_by_nobody_else(
    steering: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference,
    policy: dict[str, Any], one: int, other: int,
) -> None:  # fmt: skip
    """The next turn has the answer in its prompt, without the vector: with the salt it is exact, without it is not."""

    def off(prompt: TokensPrompt, salted: bool) -> float:
        def ask(prompts: list[TokensPrompt], params: list[Any]) -> tuple[list[tuple[int, ...]], list[Logprobs]]:
            return answers_from_cache(steering, prompts, params)

        return off_in_the_next_turn(ask, prompt["prompt_token_ids"], policy, salted, instruct, served, reference)

    # different prompts: of one, the second turn would find what the first has stored
    assert off(prompts[one], salted=True) < TOLERANCE_NATS
    assert off(prompts[other], salted=False) > 100 * TOLERANCE_NATS
    plain = TokensPrompt(prompt_token_ids=prompts[one]["prompt_token_ids"])
    prompt = plain["prompt_token_ids"]
    assert salted_prompt(plain, compile_policy(parse_policy(OBSERVE), served).program, "key", START, prompt) is plain
