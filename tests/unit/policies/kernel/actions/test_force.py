"""Forced tokens are written regardless of the logits, which are measured first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Request, Run, compiled, policy, random_logits, rule, step
from tests.unit.policies.vocabularies import SIZE, tokens

OBSERVED = compiled(policy(rule(observe={})))
TEXT = tokens("Wait|so| but|x")


def only(logits: Tensor) -> list[int]:
    """The tokens that can be sampled."""
    return torch.isfinite(logits).nonzero().flatten().tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("shared", [0, 5])
def test_only_the_forced_token_is_left_at_each_position(shared: int, temperature: float) -> None:
    run = Run(Request(OBSERVED, temperature, num_shared_tokens=shared, forced_tokens=TEXT), Request(OBSERVED))
    for written in range(len(TEXT)):
        logits = random_logits(2, SIZE, seed=written)
        changed = logits.clone()
        run.step(changed, [TEXT[:written], TEXT[:written]])
        assert only(changed[0]) == [TEXT[written]]
        assert torch.equal(changed[1], logits[1]), "another request of the batch"


def test_the_record_shows_the_models_distribution_before_forcing() -> None:
    logits = random_logits(1, SIZE)
    forced = Run(Request(OBSERVED, alternatives=4, forced_tokens=TEXT)).step(logits.clone(), [[]])
    free = Run(Request(OBSERVED, alternatives=4)).step(logits.clone(), [[]])
    assert torch.equal(forced.numbers, free.numbers)
    assert forced.alternatives is not None
    assert free.alternatives is not None
    assert torch.equal(forced.alternatives, free.alternatives)
    assert forced.probabilities is not None
    assert free.probabilities is not None
    assert torch.equal(forced.probabilities, free.probabilities), "no policy took a token away"
    assert torch.equal(forced.flags, free.flags), "no rule forced anything"


def test_nothing_is_forced_after_the_end_of_the_text() -> None:
    logits = random_logits(1, SIZE)
    changed = logits.clone()
    Run(Request(OBSERVED, forced_tokens=TEXT)).step(changed, [TEXT])
    assert torch.equal(changed, logits)


def test_texts_of_different_lengths_in_one_batch() -> None:
    run = Run(Request(OBSERVED, forced_tokens=TEXT[:1]), Request(OBSERVED, forced_tokens=TEXT))
    logits = random_logits(2, SIZE)
    first = logits.clone()
    run.step(first, [[], []])
    assert [only(first[0]), only(first[1])] == [TEXT[:1], TEXT[:1]]
    second = logits.clone()
    run.step(second, [TEXT[:1], TEXT[:1]])
    assert torch.equal(second[0], logits[0])
    assert only(second[1]) == TEXT[1:2]


def test_a_preempted_request_resumes_its_forced_text() -> None:
    slots = PolicySlots(2, SIZE, CPU)
    slots.add(1, Request(OBSERVED, forced_tokens=TEXT, num_shared_tokens=3).payload(), 0.0, TEXT[:2])
    changed = random_logits(1, SIZE)
    record = step(slots, [1], [2], TEXT[1:2], changed)
    assert record.position.tolist() == [5]
    assert only(changed[0]) == TEXT[2:3]


def test_under_speculation_each_row_has_its_own_forced_token() -> None:
    """Wrong drafts are rejected, as only the forced token can be sampled instead of them."""
    slots, drafts = PolicySlots(1, SIZE, CPU, depth=3), tokens("y|y")
    slots.add(0, Request(OBSERVED, forced_tokens=TEXT).payload(), 1.0, [])
    for committed in (0, 1):
        changed = random_logits(3, SIZE)
        last = [TEXT[committed - 1] if committed else 0, *drafts]
        record = step(slots, [0, 0, 0], list(range(committed, committed + 3)), last, changed)
        assert record.position.tolist() == [committed, committed + 1, committed + 2]
        assert [only(row)[0] for row in changed] == TEXT[committed : committed + 3]
    assert NONE not in record.position.tolist()
