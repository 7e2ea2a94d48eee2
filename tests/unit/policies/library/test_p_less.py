"""p-less, against its formula (arXiv:2509.23234) in float64: keep p >= sum p^2, p at the request's temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.unit.policies import float64_reference
from tests.unit.policies.factories import random_logits
from tests.unit.policies.vocabularies import SIZE

from .replay import replay

SCRIPT = [random_logits(SIZE, seed=seed, scale=scale) for seed, scale in enumerate((0.5, 1.0, 2.0, 3.0, 6.0))]


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_the_kept_tokens(temperature: float) -> None:
    for step in replay("p-less", SCRIPT, [0] * len(SCRIPT), temperature=temperature):
        shares = float64_reference.distribution(step.before.numpy(), temperature)
        assert step.left == np.flatnonzero(shares >= (shares**2).sum()).tolist()


def test_by_hand() -> None:
    """.5, .3, .2: the sum of squares is .38, so one is left. .4, .4, .2: .36, so two are."""
    for shares, left in (((0.5, 0.3, 0.2), [7]), ((0.4, 0.4, 0.2), [7, 8])):
        logits = torch.full((SIZE,), -torch.inf)
        logits[7:10] = torch.tensor([math.log(share) for share in shares])
        (step,) = replay("p-less", [logits], [])
        assert step.left == left


def test_equal_tokens_all_stay() -> None:
    """p is then exactly the sum of squares, and no rounding may take it away."""
    for count in (2, 3, 7, 100, 300):
        logits = torch.full((SIZE,), -torch.inf)
        logits[:count] = 0.37
        (step,) = replay("p-less", [logits], [], temperature=0.7)
        assert step.left == list(range(count))


def test_at_forks_only() -> None:
    sure = torch.zeros(SIZE)
    sure[9] = 12.0
    steps = replay("p-less", [sure, SCRIPT[1]], [0], options={"above": "fork"})
    assert [bool(step.banned) for step in steps] == [False, True]
