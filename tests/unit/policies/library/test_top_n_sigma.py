"""top-n-sigma, against its formula (arXiv:2411.07641) in float64: keep logit >= max - n * std of all logits."""

from __future__ import annotations

import pytest
import torch

from tests.unit.policies import float64_reference
from tests.unit.policies.factories import random_logits
from tests.unit.policies.vocabularies import SIZE

from .replay import replay

SCRIPT = [random_logits(SIZE, seed=seed, scale=scale) for seed, scale in enumerate((0.5, 1.0, 2.0, 3.0, 6.0))]


@pytest.mark.parametrize("n", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_the_kept_tokens_do_not_depend_on_the_temperature(n: float, temperature: float) -> None:
    steps = replay("top-n-sigma", SCRIPT, [0] * len(SCRIPT), options={"n": n}, temperature=temperature)
    for step in steps:
        logits = step.before.double()
        limit = logits.max() - n * logits.std(correction=0)
        assert step.left == (logits >= limit).nonzero().flatten().tolist()
        assert torch.equal(step.after[step.left], step.before[step.left])


def test_by_hand() -> None:
    """Logits 3, 1, 1, -1 have the mean 1 and the standard deviation √2: with n = 1, what is below 1.586 goes; with 1.5,
    what is below .879. Tokens that are forbidden do not count."""
    logits = torch.full((SIZE,), -torch.inf)
    logits[7], logits[8], logits[9], logits[10] = 3.0, 1.0, 1.0, -1.0
    (one,) = replay("top-n-sigma", [logits], [])
    (more,) = replay("top-n-sigma", [logits], [], options={"n": 1.5})
    assert (one.left, more.left) == ([7], [7, 8, 9])


def test_at_forks_only() -> None:
    sure = torch.zeros(SIZE)
    sure[9] = 12.0
    steps = replay("top-n-sigma", [sure, SCRIPT[1]], [0], options={"above": "fork"})
    assert float64_reference.entropy(float64_reference.distribution(sure.numpy())) < 0.672
    assert [bool(step.banned) for step in steps] == [False, True]
