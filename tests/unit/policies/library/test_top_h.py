"""top-h, against the set of the text of arXiv:2509.02510: the likeliest tokens whose own entropy is at most a share of
the whole distribution's. Worked out in float64 here, and once by hand.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.unit.policies import float64_reference
from tests.unit.policies.factories import random_logits
from tests.unit.policies.vocabularies import SIZE

from .replay import replay

SCRIPT = [random_logits(SIZE, seed=seed, scale=scale) for seed, scale in enumerate((0.5, 1.0, 2.0, 3.0, 6.0))]


def texts_set(logits: Tensor, share: float) -> set[int]:
    whole = float64_reference.distribution(logits.numpy())
    order = np.argsort(-whole)
    kept = 1
    while kept < 100:
        some = whole[order[: kept + 1]]
        if float64_reference.entropy(some / some.sum()) > share * float64_reference.entropy(whole):
            break
        kept += 1
    return set(order[:kept].tolist())


def codes_set(logits: Tensor, share: float) -> set[int]:
    """What the authors' code keeps: -p ln p, not renormalised, sums to at most a share of its sum over the top 100."""
    whole = float64_reference.distribution(logits.numpy())
    order = np.argsort(-whole)[:100]
    parts = -whole[order] * np.log(whole[order])
    return set(order[: max(1, int((parts.cumsum() <= share * parts.sum()).sum()))].tolist())


@pytest.mark.parametrize("share", [0.2, 0.4, 0.9])
def test_the_kept_tokens_are_those_of_the_text(share: float) -> None:
    steps = replay("top-h", SCRIPT, [0] * len(SCRIPT), options={"share": share})
    assert [set(step.left) for step in steps] == [texts_set(logits, share) for logits in SCRIPT]


def test_the_code_keeps_another_set() -> None:
    """Why the caution says which: at the default the two differ on most of these distributions."""
    assert sum(texts_set(logits, 0.4) != codes_set(logits, 0.4) for logits in SCRIPT) >= 3


def test_by_hand() -> None:
    """H(.5, .25, .125, .125) = 1.2130 nats; .4 of it is .4852. Two tokens have .6365 nats, so one is left; at .6 of it,
    .7278, two are; at .8, .9704, three have .9557."""
    logits = torch.full((SIZE,), -torch.inf)
    for token, share in ((7, 0.5), (8, 0.25), (9, 0.125), (10, 0.125)):
        logits[token] = math.log(share)
    (some,), (more,) = (replay("top-h", [logits], [], options={"share": share}) for share in (0.4, 0.6))
    assert (some.left, more.left) == ([7], [7, 8])
    (tied,) = replay("top-h", [logits], [], options={"share": 0.8})
    assert tied.left == [7, 8, 9, 10], "the fourth is as likely as the third, and ties stay"
