"""Steering and recycling on vLLM's V2 model runner: as on V1 and in transformers, and nobody else's answer changes by
a bit."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from vllm import LLM, SamplingParams
from vllm.inputs import TokensPrompt

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.state_handover import Past, Path
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_server.cli import PROCESSORS
from forkpoint_server.engine.hidden_states import PUT_ARTEFACT, TAKE_STATES

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
    off_in_the_next_turn,
    second_passes,
)

NOISE_NATS = 1e-5
"""Of float32, between the attention kernels of the two runners."""
STATES_TOLERANCE = 1e-5
"""Of a state's norm."""
OBSERVE: dict[str, Any] = {"rules": [{"when": {"every": 3}, "do": {"observe": {}}}]}
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
def changing_runner(log: FilePath, *, v2: bool = True, **options: Any) -> Iterator[Runner]:
    with runner(log, v2=v2, logits_processors=[PROCESSORS[v2]], **OPTIONS, **options) as found:
        for one in VECTORS.values():
            assert not any(found.call(PUT_ARTEFACT, one.raw))
        yield found


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with changing_runner(tmp_path_factory.mktemp("v2") / "log") as found:
        yield found


Answers = tuple[list[tuple[int, ...]], list[Logprobs]]


def on_v1(llm: LLM, prompts: Sequence[TokensPrompt], params: Sequence[SamplingParams]) -> Answers:
    outputs = [output.outputs[0] for output in llm.generate(prompts, params, use_tqdm=False)]
    return [tuple(one.token_ids) for one in outputs], [logprobs_of(one) for one in outputs]


def in_process(one: Runner, prompts: Sequence[TokensPrompt], params: Sequence[SamplingParams]) -> Answers:
    """With a salt of its own, as a server's requests have: nothing is found of what others have changed."""
    salt = secrets.token_hex(8)
    own = [TokensPrompt(prompt_token_ids=prompt["prompt_token_ids"], cache_salt=salt) for prompt in prompts]
    return from_cache(one, own, params)


def from_cache(one: Runner, prompts: Sequence[TokensPrompt], params: Sequence[SamplingParams]) -> Answers:
    """The same, with the prompts' own salts."""
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
    again, found = in_process(v2, few, [instruct(one, served=served, **GREEDY) for one in POLICIES])
    assert again == tokens
    assert farthest(found, expected) < NOISE_NATS
    changed = [bool(np.abs(one - other).max() > TOLERANCE_NATS) for one, other in zip(found, without, strict=True)]
    assert changed == [one is not None for one in POLICIES]
    assert again[-1] == plain[-1]


def test_what_is_computed_in_pieces_or_again_is_changed_alike(
    v1: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, tmp_path: FilePath
) -> None:
    """An engine with so little room that it computes prompts in pieces, and preempts and resumes requests."""
    few, longer = prompts[: len(POLICIES)], {**GREEDY, "max_tokens": 64}
    params = [instruct(one, served=served, **longer) for one in POLICIES]
    tokens, expected = on_v1(v1, few, params)
    small: dict[str, Any] = {
        "max_num_batched_tokens": 32, "max_num_seqs": 16, "num_gpu_blocks_override": 17, "max_model_len": 256,
        "enable_prefix_caching": False,
    }  # fmt: skip
    with changing_runner(tmp_path / "log", **small) as cramped:
        again, found = in_process(cramped, few, params)
        assert cramped.counters["vllm:num_preemptions"] > 0
    assert again == tokens
    assert farthest(found, expected) < NOISE_NATS


def test_it_is_the_model_with_the_vector_added(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference
) -> None:
    (own,), (found,) = in_process(v2, prompts[:1], [instruct(AT_FORKS, served=served, **GREEDY)])
    at = np.flatnonzero(entropies(found) > FORK_NATS).tolist()
    assert len(at) >= 2
    added = {position: {2: -2.0 * CALM.tensors["layer.2"]} for position in at}
    prompt = prompts[0]["prompt_token_ids"]
    assert np.abs(reference.logprobs(prompt, own, added) - found).max() < TOLERANCE_NATS
    assert np.abs(reference.logprobs(prompt, own, {}) - found).max() > 100 * TOLERANCE_NATS


def test_a_branch_reads_what_it_shares_with_the_vector(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference
) -> None:
    """Beside a request without a policy."""
    policy: dict[str, Any] = {"rules": [{"do": {"branch": {}}}, *BY_ENTROPY["rules"]]}
    prompt, program = prompts[2]["prompt_token_ids"], compile_policy(parse_policy(policy), served).program
    (shared, _), _ = in_process(v2, prompts[2:4], [instruct(None, **GREEDY)] * 2)
    count = len(shared)
    fired, nats = np.zeros((count, 2), np.bool_), np.linspace(0.0, 2.0, count, dtype=np.float32)
    fired[[3, 9, 10, count - 1], 1] = True
    none = np.zeros((count, 2), np.float32)
    past = Past(nats, fired, np.zeros(count, np.float32), none, none, np.ones(count, np.bool_))
    inherited = Path(program, 0, Region.REASONING).follow(shared).inherit(past)
    own = instruct(policy, served=served, num_shared_tokens=count, inherited=inherited, **GREEDY)
    longer = TokensPrompt(prompt_token_ids=[*prompt, *shared])
    (tokens, _), (found, _) = in_process(v2, [longer, prompts[3]], [own, instruct(None, **GREEDY)])
    measured = entropies(found)
    decided = {at: float(nats[at]) for at in np.flatnonzero(fired[:, 1]).tolist()}
    decided |= {count + at: measured[at] for at in np.flatnonzero(measured > FORK_NATS).tolist()}

    def off(decisions: dict[int, float]) -> float:
        scales = {at: 2.0 - 16.0 * entropy / np.log(VOCABULARY) for at, entropy in decisions.items()}
        added = {at: {2: (scale * CALM.tensors["layer.2"]).astype(np.float32)} for at, scale in scales.items()}
        expected = reference.logprobs(prompt, [*shared, *tokens], added)[count:]
        return float(np.abs(expected - found).max())

    assert off(decided) < TOLERANCE_NATS
    assert off({at: one for at, one in decided.items() if at >= count}) > 100 * TOLERANCE_NATS


@pytest.mark.parametrize("v2", [False, True], ids=["V1", "V2"])
def test_two_ranks_change_the_same_as_one(
    v1: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, tmp_path: FilePath, v2: bool
) -> None:
    few, params = prompts[: len(POLICIES)], [instruct(one, served=served, **GREEDY) for one in POLICIES]
    tokens, expected = on_v1(v1, few, params)
    binding = {"VLLM_CPU_OMP_THREADS_BIND": "0|1"}
    with changing_runner(tmp_path / "log", v2=v2, tensor_parallel_size=2, environment=binding) as two:
        assert len(two.call(PUT_ARTEFACT, CALM.raw)) == 2
        again, found = in_process(two, few, params)
    assert again == tokens
    assert farthest(found, expected) < TOLERANCE_NATS


def test_a_compiled_model_is_changed_alike(
    v1: LLM, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, tmp_path: FilePath
) -> None:
    few, params = prompts[: len(POLICIES)], [instruct(one, served=served, **GREEDY) for one in POLICIES]
    tokens, expected = on_v1(v1, few, params)
    cache = tmp_path / "cache"
    with changing_runner(tmp_path / "log", enforce_eager=False, environment={"VLLM_CACHE_ROOT": str(cache)}) as one:
        again, found = in_process(one, few, params)
    assert [*cache.glob("torch_compile_cache/*")]
    assert again == tokens
    assert farthest(found, expected) < TOLERANCE_NATS


@pytest.mark.parametrize("policy", [AT_FORKS, HERE, AGAIN, AGAIN_HERE], ids=["next", "here", "again", "again, here"])
def test_no_other_answer_changes_by_a_bit(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, policy: dict[str, Any]
) -> None:
    few = prompts[:4]
    tokens, before = in_process(v2, few, [instruct(None, **GREEDY) for _ in few])
    mixed = [instruct(policy if number == 1 else None, served=served, **GREEDY) for number in range(4)]
    changed, found = in_process(v2, few, mixed)
    assert np.abs(found[1] - before[1]).max() > TOLERANCE_NATS
    for number in (0, 2, 3):
        assert changed[number] == tokens[number]
        assert (found[number] == before[number]).all()
    shadow = {**policy, "shadow": True}
    unchanged, after = in_process(v2, few, [instruct(shadow, served=served, **GREEDY) for _ in few])
    assert unchanged == tokens
    assert all((one == other).all() for one, other in zip(after, before, strict=True))


@pytest.mark.parametrize("policy", [AGAIN, AGAIN_HERE, BOTH_CHANGES], ids=["next", "here", "with a vector"])
def test_it_is_the_model_with_a_layer_run_again(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference,
    policy: dict[str, Any],
) -> None:  # fmt: skip
    longer = {**GREEDY, "max_tokens": 40}
    (own,), (found,) = in_process(v2, prompts[1:2], [instruct(policy, served=served, **longer)])
    again, added = second_passes(policy, own, found, served)
    prompt = prompts[1]["prompt_token_ids"]
    assert all(len(one) >= 3 for one in again.values())
    assert np.abs(reference.logprobs(prompt, own, added, again) - found).max() < TOLERANCE_NATS
    for layer in again:  # each of the changes can be seen
        others = {one: tokens for one, tokens in again.items() if one != layer}
        assert np.abs(reference.logprobs(prompt, own, added, others) - found).max() > 100 * TOLERANCE_NATS


@pytest.mark.parametrize(
    ("policy", "one", "other"), [(TWO_TOKENS, 5, 6), (HERE, 7, 8), (AGAIN, 9, 10)],
    ids=["from next", "from here", "a layer again"],
)  # fmt: skip
def test_what_was_stored_of_a_changed_answer_is_found_by_nobody_else(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference,
    policy: dict[str, Any], one: int, other: int,
) -> None:  # fmt: skip
    def off(prompt: TokensPrompt, salted: bool) -> float:
        def ask(own: list[TokensPrompt], params: list[SamplingParams]) -> Answers:
            return from_cache(v2, own, params)

        return off_in_the_next_turn(ask, prompt["prompt_token_ids"], policy, salted, instruct, served, reference)

    assert off(prompts[one], salted=True) < TOLERANCE_NATS
    assert off(prompts[other], salted=False) > 100 * TOLERANCE_NATS


def test_the_states_of_hooked_layers_are_transformers(
    v2: Runner, prompts: list[TokensPrompt], instruct: Instruct, served: ServedModel, reference: Reference
) -> None:
    """Of a request beside others, one of which is steered; reading them changes no bit of anybody's answer."""
    few, names = prompts[:3], ["layer.1", "last", "layer.2"]
    others = instruct(None, **GREEDY), instruct(HERE, served=served, **GREEDY)
    tokens, before = in_process(v2, few, [others[0], instruct(None, **GREEDY), others[1]])
    reading = instruct(OBSERVE, served=served, kept_states=names, **GREEDY)
    again, found = in_process(v2, few, [others[0], reading, others[1]])
    assert again == tokens
    assert all((one == other).all() for one, other in zip(found, before, strict=True))
    payload = PolicyPayload.of(reading.extra_args)
    assert payload is not None
    states = load(v2.call(TAKE_STATES, payload.handle)[0])
    assert states["positions"].tolist() == list(range(0, 24, 3))
    assert states["last"].shape == states["layer.1"].shape
    for layer in (1, 2):
        expected = reference.states(few[1]["prompt_token_ids"], tokens[1], layer)[::3]
        distance = np.linalg.norm(states[f"layer.{layer}"] - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert distance.max() < STATES_TOLERANCE
