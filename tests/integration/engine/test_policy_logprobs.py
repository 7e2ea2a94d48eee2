"""Log probabilities of the distribution that was sampled from, against vLLM's own of the same tokens.

This engine's own `logprobs` are those of the processed logits, which a server has only if it is started so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from vllm import LLM
from vllm.inputs import TokensPrompt

from forkpoint_policies.placebo import matches_of, placebo_of
from forkpoint_policies.spec import Policy, parse_policy
from tests.integration.engine.conftest import Instruct, Telemetry, running

MAX_TOKENS = 60
TOLERANCE = 1e-4
WORDS: dict[str, Any] = {"words": ["wait", "let's", "so", "try", "not"]}

POLICIES: dict[str, list[dict[str, Any]]] = {
    "no rule": [],
    "observe": [{"do": {"observe": {}}}],
    "suppress": [{"do": {"suppress": WORDS}}],
    "suppress, finite": [{"do": {"suppress": {**WORDS, "bias": -2.5}}}],
    "amplify": [{"do": {"amplify": {**WORDS, "bias": 3.0}}}],
    "temperature": [{"when": {"entropy_above": 0.3}, "do": {"temperature": 1.8}}],
    "cool": [{"do": {"temperature": 0.4}}],
    "top-k": [{"do": {"truncate": {"top_k": 2}}}],
    "top-p": [{"do": {"truncate": {"top_p": 0.8}}}],
    "min-p": [{"when": {"entropy_above": 0.3}, "do": {"truncate": {"min_p": 0.2}}}],
    "force": [{"when": {"after_token": 5, "at_most": 2}, "do": {"force": {"text": " Wait, so"}}}],
    "several": [
        {"do": {"suppress": {"words": ["wait"]}}},
        {"do": {"amplify": {"words": ["so"], "bias": 2.0}}},
        {"when": {"entropy_above": 0.5}, "do": {"temperature": 1.5}},
    ],
}
SAMPLING: dict[str, dict[str, Any]] = {
    "temperature 1": {"temperature": 1.0},
    "cool, top-p": {"temperature": 0.7, "top_p": 0.85},
    "hot, top-k, min-p": {"temperature": 1.6, "top_k": 12, "min_p": 0.02},
    "greedy": {"temperature": 0.0},
}


def policies() -> Iterator[tuple[str, Policy]]:
    for name, rules in POLICIES.items():
        policy = parse_policy({"rules": rules or [{"when": {"entropy_above": 49.0}, "do": {"suppress": WORDS}}]})
        yield name, policy
        if name in ("suppress", "amplify"):
            for match in matches_of(policy):
                if match != "frequency":  # needs a calibration, and samples its tokens before the kernel
                    yield (
                        f"{name}, placebo by {match}",
                        placebo_of(policy, match, strength=2.0 if match == "dose" else None),
                    )
    yield "shadow", parse_policy({"rules": POLICIES["suppress"]}).in_shadow()


@pytest.fixture(scope="module")
def processed() -> Iterator[LLM]:
    from forkpoint_server.cli import PROCESSORS

    yield from running(logits_processors=[PROCESSORS[False]], logprobs_mode="processed_logprobs")


def test_they_are_vllms_own(
    processed: LLM, prompts: list[TokensPrompt], instruct: Instruct, telemetry: Telemetry
) -> None:
    """All policies under all parameters in one batch: their last tokens come in different steps."""
    cases = [(name, policy, kind) for name, policy in policies() for kind in SAMPLING]
    expected: list[list[float]] = []

    def generate(address: str) -> list[tuple[int, ...]]:
        params = [
            instruct(
                policy, address, scored=True, seed=number, logprobs=0, max_tokens=MAX_TOKENS - number % 7,
                **SAMPLING[kind],
            )
            for number, (_, policy, kind) in enumerate(cases)
        ]  # fmt: skip
        outputs = processed.generate(
            [prompts[number % len(prompts)] for number in range(len(cases))], params, use_tqdm=False
        )
        choices = [output.outputs[0] for output in outputs]
        for choice in choices:
            steps: Any = choice.logprobs
            expected.append([step[token].logprob for step, token in zip(steps, choice.token_ids, strict=True)])
        return [tuple(choice.token_ids) for choice in choices]

    traces = telemetry.traces(generate)
    assert len(traces) == len(cases)
    for case, trace, wanted in zip(cases, traces, expected, strict=True):
        found = trace.policy_logprobs()
        assert None not in found, case
        differences = [abs(one - other) for one, other in zip(found, wanted, strict=True) if one is not None]
        assert max(differences) < TOLERANCE, case
    assert any(nats < -0.5 for wanted in expected for nats in wanted), "nothing was sampled that is not certain"
    forced = [trace.policy_logprobs() for (name, _, _), trace in zip(cases, traces, strict=True) if name == "force"]
    assert all(math.isclose(nats or 0.0, 0.0, abs_tol=1e-6) for found in forced for nats in found[6:8])
