"""The effective rank against numpy's singular values, and how it changes."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
import torch

from forkpoint_policies.hidden.effective_rank import UNKNOWN, effective_rank


def of_singular_values(states: np.ndarray) -> float:
    """As the authors' code computes it: of the states around their mean."""
    values = np.linalg.svd(states - states.mean(axis=0), compute_uv=False)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize(("length", "width"), [(8, 192), (64, 192), (64, 32), (2, 5)])
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_it_is_that_of_the_singular_values(length: int, width: int, shift: float) -> None:
    states = np.random.default_rng(length).normal(size=(length, width)) * np.linspace(0.1, 3, width) + shift
    assert effective_rank(torch.from_numpy(states)) == pytest.approx(of_singular_values(states), abs=1e-5)


def test_it_counts_the_directions() -> None:
    """Equal steps in three directions span three dimensions; equal states none, which counts as one."""
    steps = torch.eye(8)[:3].repeat(2, 1) * torch.tensor([1.0, 1, 1, -1, -1, -1])[:, None]
    assert effective_rank(steps) == pytest.approx(3.0)
    assert effective_rank(torch.ones(6, 8)) == 1.0


def test_half_precision_is_measured_as_it_is() -> None:
    states = torch.randn(16, 32, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert effective_rank(states) == pytest.approx(of_singular_values(states.double().numpy()), abs=1e-5)


def test_velocity_and_acceleration() -> None:
    """10, 14, 9: the second is 4 above the mean of those before it, the third 3 below theirs."""
    first = UNKNOWN.after(10.0)
    second, third = first.after(14.0), first.after(14.0).after(9.0)
    assert (first.rank, isnan(first.velocity), isnan(first.acceleration)) == (10.0, True, True)
    assert (second.velocity, isnan(second.acceleration)) == (4.0, True)
    assert (third.rank, third.velocity, third.acceleration) == (9.0, -3.0, -7.0)
