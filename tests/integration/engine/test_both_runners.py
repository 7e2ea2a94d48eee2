"""Each policy of the library on both of vLLM's model runners, without and with a draft model: the same tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from vllm.inputs import TokensPrompt

from forkpoint_policies.catalog import library
from forkpoint_policies.worker.last_layer import EXTENSION
from forkpoint_server.cli import PROCESSORS
from forkpoint_server.demo import WEIGHTS

from .conftest import Instruct, Telemetry
from .demo_readout import DIRECTION, NAME
from .runners import Runner, runner, speculating, write_noisy_model
from .stateful_policies import STATEFUL

POLICIES = [
    named.policy
    for named in library()
    if (named.policy.tree_rule is None or named.of is None) and not named.policy.changes_states
]
"""Without placebos of policies with several requests: in the engine they do what the policy does, or act at random. And
without those that need hooked layers: `launch/test_steering.py` has them."""

ACCEPTED = 0.2, 0.95  # a draft that is always right or never would prove little
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 20}


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Runner]]:
    """One engine of each kind."""
    folder = tmp_path_factory.mktemp("runners")
    draft = write_noisy_model(folder / "draft", noise=0.3)
    common: dict[str, Any] = {"max_num_seqs": 64, "enable_prefix_caching": False, "worker_extension_cls": EXTENSION}
    with (
        runner(folder / "v1.log", v2=False, logits_processors=[PROCESSORS[False]], **common) as v1,
        runner(folder / "v2.log", v2=True, logits_processors=[PROCESSORS[True]], **common) as v2,
        runner(
            folder / "draft.log",
            v2=True,
            logits_processors=[PROCESSORS[True]],
            speculative_config=speculating(draft),
            **common,
        ) as speculative,
    ):
        yield {"V1": v1, "V2": v2, "V2 with a draft": speculative}


def test_greedy_tokens_are_the_same(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct
) -> None:
    """Every policy and every placebo; all run together, so that batches mix all of them."""
    chosen = [prompts[number % len(prompts)] for number in range(len(POLICIES))]

    def generate(one: Runner) -> list[tuple[int, ...]]:
        return one.generate(chosen, [instruct(policy, **GREEDY) for policy in POLICIES])

    expected = generate(runners["V1"])
    for name in ("V2", "V2 with a draft"):
        found = generate(runners[name])
        different = {POLICIES[number].name for number, tokens in enumerate(found) if tokens != expected[number]}
        assert different == set(), name
    assert ACCEPTED[0] < runners["V2 with a draft"].acceptance < ACCEPTED[1]


def test_the_second_runner_leaves_the_state_right_too(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, tmp_path: Path
) -> None:
    """Prompts in pieces, and requests that are preempted and resumed, on V2 as on V1 without."""
    few = prompts[: len(STATEFUL)]

    def generate(one: Runner) -> list[tuple[int, ...]]:
        return one.generate(few, [instruct(policy, temperature=0.0, max_tokens=64) for policy in STATEFUL])

    small: dict[str, Any] = {
        "max_num_batched_tokens": 32,
        "max_num_seqs": 16,
        "num_gpu_blocks_override": 17,
        "max_model_len": 256,
        "enable_prefix_caching": False,
        "worker_extension_cls": EXTENSION,
    }
    with runner(tmp_path / "log", v2=True, logits_processors=[PROCESSORS[True]], **small) as cramped:
        found = generate(cramped)
        assert cramped.counters["vllm:num_preemptions"] > 0
    assert found == generate(runners["V1"])


@pytest.mark.parametrize("name", ["V1", "V2"])  # vLLM samples with a draft in Triton only, not in its interpreter
def test_what_replaces_tokens_does_so_under_the_limits_of_the_sampling(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, name: str
) -> None:
    """With a min-p of 1 the likeliest token is certain: the rule acts where it does in a greedy request."""
    words = {"words": ["so", "then", "let's", "try"]}
    written = {"rules": [{"when": {"at_most": 3}, "do": {"force": {"text": " Wait", "instead_of": words}}}]}

    def generate(**options: Any) -> list[tuple[int, ...]]:
        return runners[name].generate(prompts, [instruct(written, max_tokens=20, **options) for _ in prompts])

    greedy = generate(temperature=0.0)
    assert greedy != runners[name].generate(prompts, [instruct(None, **GREEDY) for _ in prompts])
    assert generate(temperature=1.5, min_p=1.0, seed=5) == greedy


NUM_SHARED_TOKENS = 7
FORCED_TOLERANCE_NATS = 0.05  # between runners and batches in bfloat16; a wrong prefix is off by nats


def test_a_forced_text_is_written_and_measured(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, telemetry: Telemetry
) -> None:
    """Whole, and from the middle on: the tokens are the forced ones, the entropies those of the generation."""
    observe: dict[str, Any] = {"rules": []}

    def write_freely(address: str) -> list[tuple[int, ...]]:
        options = [instruct(observe, address, temperature=1.0, seed=number, max_tokens=60) for number in range(4)]
        return runners["V1"].generate(prompts[:4], options)

    free, entropies = telemetry.read(write_freely)
    assert all(len(entropies[number]) == len(tokens) for number, tokens in enumerate(free))
    whole = [(prompt, list(tokens), 0) for prompt, tokens in zip(prompts, free, strict=False)]
    rest: list[tuple[TokensPrompt, list[int], int]] = [
        (
            TokensPrompt(prompt_token_ids=[*prompt["prompt_token_ids"], *tokens[:NUM_SHARED_TOKENS]]),
            tokens[NUM_SHARED_TOKENS:],
            NUM_SHARED_TOKENS,
        )
        for prompt, tokens, _ in whole
    ]
    texts = [*whole, *rest]

    def write_forced(one: Runner, address: str) -> list[tuple[int, ...]]:
        options = [
            instruct(
                observe,
                address,
                num_shared_tokens=num_shared,
                forced_tokens=tokens,
                temperature=0.0,
                max_tokens=len(tokens),
                ignore_eos=True,
            )
            for _, tokens, num_shared in texts
        ]
        return one.generate([prompt for prompt, _, _ in texts], options)

    for name, one in runners.items():
        found, measured = telemetry.read(partial(write_forced, one))
        assert [list(tokens) for tokens in found] == [tokens for _, tokens, _ in texts], name
        for number, (_, tokens, num_shared) in enumerate(texts):
            own = {position: nats for position, nats in measured[number].items() if position < num_shared + len(tokens)}
            expected = {
                position: nats for position, nats in entropies[number % len(whole)].items() if position >= num_shared
            }
            assert own == pytest.approx(expected, abs=FORCED_TOLERANCE_NATS), name


def test_records_after_rejected_drafts_are_distinguished_from_those_that_count(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, telemetry: Telemetry
) -> None:
    """What is left are those of an engine that drafts nothing."""
    observe: dict[str, Any] = {"rules": []}

    def write(one: Runner, address: str) -> list[tuple[int, ...]]:
        return one.generate(prompts[:4], [instruct(observe, address, temperature=0.0, max_tokens=60) for _ in range(4)])

    expected = telemetry.traces(partial(write, runners["V1"]))
    found = telemetry.traces(partial(write, runners["V2 with a draft"]))
    for own, other in zip(found, expected, strict=True):
        assert own.tokens == other.tokens
        assert (own.num_missing, own.profile().position.tolist()) == (0, list(range(len(own.tokens))))
        assert own.profile().entropy == pytest.approx(other.profile().entropy, abs=FORCED_TOLERANCE_NATS)
        assert all(own.is_valid(position) for position in range(len(own.tokens)))


def test_the_distributions_that_are_sampled_from_are_the_same(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, telemetry: Telemetry
) -> None:
    """Of forced and other tokens, up to the last, whose distribution is sent whole."""
    policy: dict[str, Any] = {
        "rules": [
            {"do": {"amplify": {"words": ["so", "wait"], "bias": 2.0}}},
            {"when": {"after_token": 5, "at_most": 1}, "do": {"force": {"text": " Wait, so"}}},
        ]
    }

    def write(one: Runner, address: str) -> list[tuple[int, ...]]:
        params = [instruct(policy, address, scored=True, temperature=0.0, max_tokens=30 + own) for own in range(4)]
        return one.generate(prompts[:4], params)

    first, second = (telemetry.traces(partial(write, runners[name])) for name in ("V1", "V2"))
    for one, other in zip(first, second, strict=True):
        assert one.tokens == other.tokens
        assert None not in one.policy_logprobs()
        assert one.policy_logprobs() == pytest.approx(other.policy_logprobs(), abs=FORCED_TOLERANCE_NATS)
        assert 0.0 in one.policy_logprobs()


BY_RANK: dict[str, Any] = {
    "rules": [
        {
            "when": {"effective_rank_velocity_above": 0.0, "rank_window": 12, "rank_stride": 3},
            "do": {"suppress": {"words": ["so", "then", "try"]}},
        },
        {
            "when": {"effective_rank_below": 8.5, "rank_window": 12, "rank_stride": 3, "every": 5},
            "do": {"force": {"text": " so"}},
        },
    ]
}


def test_the_effective_rank_is_the_same_on_each(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, telemetry: Telemetry
) -> None:
    """It is that of the model's states as transformers computes them, and a condition on it holds at the same tokens;
    alone and in a batch, to the bit."""

    def write(one: Runner, chosen: slice, address: str) -> list[tuple[int, ...]]:
        few = prompts[chosen]
        return one.generate(few, [instruct(BY_RANK, address, temperature=0.0, max_tokens=48) for _ in few])

    traces = telemetry.traces(partial(write, runners["V1"], slice(0, 4)))
    free = runners["V1"].generate(prompts[:4], [instruct({"rules": []}, temperature=0.0, max_tokens=48)] * 4)
    assert any(trace.tokens != list(tokens) for trace, tokens in zip(traces, free, strict=True)), "the rule acts"
    for prompt, trace in zip(prompts, traces, strict=False):
        ranks = trace.profile().hidden[:, 0]
        assert np.isnan(ranks[:11]).all()
        assert ranks[11:] == pytest.approx(ranks_by_transformers(prompt, trace.tokens)[11:], abs=1e-3)

    (alone,) = telemetry.traces(partial(write, runners["V1"], slice(1, 2)))
    assert alone.profile().hidden.tobytes() == traces[1].profile().hidden.tobytes()
    for name in ("V2", "V2 with a draft"):
        found = telemetry.traces(partial(write, runners[name], slice(0, 4)))
        for one, other in zip(traces, found, strict=True):
            assert one.tokens == other.tokens, name
            assert other.profile().hidden == pytest.approx(one.profile().hidden, abs=1e-3, nan_ok=True), name


def test_a_readout_is_the_same_on_each(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, telemetry: Telemetry
) -> None:
    """It is that of the states as transformers computes them, alone and in a batch to the bit; a condition on it
    holds where its value is above the bound, which lies away from all values."""

    def write(one: Runner, chosen: slice, bound: float, address: str) -> list[tuple[int, ...]]:
        policy = {"rules": [{"when": {"readout_above": {"name": NAME, "value": bound}}, "do": {"observe": {}}}]}
        return one.generate(prompts[chosen], [instruct(policy, address, **GREEDY) for _ in prompts[chosen]])

    first = telemetry.traces(partial(write, runners["V1"], slice(0, 4), 0.0))
    values = np.sort(np.concatenate([trace.profile().hidden[:, 3] for trace in first]))
    middle = values[len(values) // 4 : -len(values) // 4]
    widest = int(np.diff(middle).argmax())
    bound = float(middle[widest : widest + 2].mean())
    for prompt, trace in zip(prompts, first, strict=False):
        wanted = states_by_transformers(prompt, trace.tokens) @ DIRECTION.astype(np.float64) + 0.25
        assert trace.profile().hidden[:, 3] == pytest.approx(wanted, abs=1e-3)
    (alone,) = telemetry.traces(partial(write, runners["V1"], slice(1, 2), 0.0))
    assert alone.profile().hidden.tobytes() == first[1].profile().hidden.tobytes()
    for name, one in runners.items():
        found = telemetry.traces(partial(write, one, slice(0, 4), bound))
        for expected, trace in zip(first, found, strict=True):
            profile = trace.profile()
            assert trace.tokens == expected.tokens, name
            assert profile.hidden[:, 3] == pytest.approx(expected.profile().hidden[:, 3], abs=1e-3), name
            assert np.isnan(profile.hidden[:, :3]).all()
            assert profile.fired[:, 0].tolist() == (expected.profile().hidden[:, 3] > bound).tolist(), name
        assert 0 < sum(int(trace.profile().fired[:, 0].sum()) for trace in found) < len(values)


def ranks_by_transformers(prompt: TokensPrompt, tokens: list[int]) -> np.ndarray:
    """By position of the answer, from the singular values of the window that ended there last."""
    states, found = states_by_transformers(prompt, tokens), np.full(len(tokens), np.nan)
    for position in range(11, len(tokens)):
        if (position + 1) % 3 == 0:
            window = states[position - 11 : position + 1]
            values = np.linalg.svd(window - window.mean(axis=0), compute_uv=False)
            shares = values[values > 0] / values.sum()
            found[position] = np.exp(-(shares * np.log(shares)).sum())
        else:
            found[position] = found[position - 1]
    return found


SEEDS = 240
PERMUTATIONS = 999


@pytest.mark.soak
@pytest.mark.parametrize("name", ["nowait", "dual-temperature", "budget-force"])
def test_sampled_tokens_have_the_same_distribution(
    runners: dict[str, Runner], prompts: list[TokensPrompt], instruct: Instruct, name: str
) -> None:
    """The first tokens of one puzzle's answer over many seeds. At 1 in 1,000 per comparison, 1 run in 150 fails."""
    policy = next(policy for policy in POLICIES if policy.name == name)

    def generate(one: Runner) -> list[tuple[int, ...]]:
        params = [instruct(policy, temperature=1.0, seed=seed, max_tokens=5) for seed in range(SEEDS)]
        return one.generate([prompts[3]] * SEEDS, params)

    found = {kind: generate(one) for kind, one in runners.items()}
    assert len(set(found["V1"])) > SEEDS / 20, "there is a distribution to compare"
    for kind in ("V2", "V2 with a draft"):
        assert chance_of(found["V1"], found[kind]) > 0.001, kind


def chance_of(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> float:
    """How likely two samples of one distribution differ so much: a permutation test on the total variation distance."""
    kinds = {kind: number for number, kind in enumerate(Counter([*one, *other]))}
    values = np.array([kinds[value] for value in (*one, *other)])
    random = np.random.default_rng(0)

    def distance(order: np.ndarray) -> int:
        counts = [np.bincount(values[part], minlength=len(kinds)) for part in (order[: len(one)], order[len(one) :])]
        return int(np.abs(counts[0] - counts[1]).sum())

    seen = distance(np.arange(len(values)))
    as_far = sum(distance(random.permutation(len(values))) >= seen for _ in range(PERMUTATIONS))
    return (as_far + 1) / (PERMUTATIONS + 1)


def states_by_transformers(prompt: TokensPrompt, tokens: list[int]) -> np.ndarray:
    """The last layer's states [tokens, D] from which the tokens of an answer were sampled."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)
    text = torch.tensor([[*prompt["prompt_token_ids"], *tokens]])
    with torch.no_grad():
        states: np.ndarray = model(text, output_hidden_states=True).hidden_states[-1][0].double().numpy()
    return states[len(prompt["prompt_token_ids"]) - 1 :][: len(tokens)]
