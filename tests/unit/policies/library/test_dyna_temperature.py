"""dyna-temperature, against llama.cpp's formula: min + (max - min) * (H / ln V) ^ exponent, run here in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.unit.policies import float64_reference
from tests.unit.policies.factories import random_logits
from tests.unit.policies.vocabularies import SIZE

from .replay import replay

SCRIPT = [random_logits(SIZE, seed=seed, scale=scale) for seed, scale in enumerate((0.0, 0.5, 1.0, 3.0, 20.0))]


@pytest.mark.parametrize(
    ("options", "low", "high", "exponent"),
    [({}, 0.5, 1.5, 1.0), ({"low": 0.2, "high": 2.0, "exponent": 2.5}, 0.2, 2.0, 2.5), ({"high": 0.1}, 0.5, 0.1, 1.0)],
)
def test_the_temperature_is_llama_cpps(options: dict[str, Any], low: float, high: float, exponent: float) -> None:
    for step in replay("dyna-temperature", SCRIPT, [0] * len(SCRIPT), options=options):
        entropy = float64_reference.entropy(float64_reference.distribution(step.before.numpy()))
        factor = low + (high - low) * (entropy / math.log(SIZE)) ** exponent
        assert step.after.tolist() == pytest.approx((step.before / factor).tolist(), rel=1e-4)


def test_the_ends_by_hand() -> None:
    """All tokens alike: the factor is high. One token only: H = 0, and it is low."""
    certain = torch.full((SIZE,), -torch.inf)
    certain[9] = 2.0
    alike, sure = replay("dyna-temperature", [torch.ones(SIZE), certain], [0])
    assert float(alike.after[0]) == pytest.approx(1 / 1.5, rel=1e-5)
    assert float(sure.after[9]) == pytest.approx(2 / 0.5, rel=1e-5)
