"""Random numbers and curves, against plain implementations."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.compile.program import Shape
from forkpoint_policies.kernel.numerics import evaluate, uniform

MASK = 2**64 - 1


def plainly(seed: int, position: int, salt: int) -> float:
    """SplitMix64's finaliser, on Python's own integers."""
    mixed = (seed + position * 0x9E3779B97F4A7C15 + (salt + 1) * 0x5851F42D4C957F2D) & MASK
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & MASK
    return float((mixed ^ (mixed >> 31)) >> 40) / 2**24


@given(seed=st.integers(-(2**63), 2**63 - 1), position=st.integers(0, 10**7), salt=st.integers(0, 2**25))
def test_a_random_number_depends_on_seed_position_and_salt_only(seed: int, position: int, salt: int) -> None:
    found = uniform(torch.tensor([seed]), torch.tensor([position]), salt)
    assert found.item() == plainly(seed, position, salt)
    assert 0 <= found.item() < 1


def test_random_numbers_are_uniform_and_independent_of_their_neighbours() -> None:
    seeds, positions = torch.arange(200)[:, None], torch.arange(500)[None]
    values = uniform(seeds, positions, 3).numpy()
    assert abs(values.mean() - 0.5) < 0.005
    assert np.abs(np.histogram(values, 20, (0, 1))[0] / values.size - 0.05).max() < 0.004
    for other in (
        values[1:, :] * values[:-1, :],
        values[:, 1:] * values[:, :-1],
        values * uniform(seeds, positions, 4).numpy(),
    ):
        assert abs(other.mean() - 0.25) < 0.005


def test_a_linear_curve_stays_at_its_end() -> None:
    curve = torch.tensor([Shape.LINEAR.value, 1.0, 0.0, 4.0])
    found = [evaluate(curve, torch.tensor(position), torch.tensor(1.0)).item() for position in (0, 1, 2, 4, 9)]
    assert found == [1.0, 0.75, 0.5, 0.0, 0.0]


def test_a_constant_curve_is_exact() -> None:
    curve = torch.tensor([Shape.CONSTANT.value, 0.1, 0.0, 1.0])
    assert evaluate(curve, torch.tensor(7), torch.tensor(0.0)).item() == torch.tensor(0.1).item()
