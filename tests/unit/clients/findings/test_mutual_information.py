"""The estimate of what a state says about another: known values, and the authors' formula written down again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from forkpoint_clients.findings.mutual_information import information


def test_two_coordinates_by_hand() -> None:
    """With d = 1 - exp(-a² / 5000), the centred kernel of (0, a) has the eigenvalue d once, and R = d / (d + 2e-5)."""

    def ratio(distance: float) -> float:
        d = 1 - math.exp(-(distance**2) / 5000)
        return d / (d + 2e-5)

    found = information(np.array([[0.0, 1.0], [3.0, 1.0], [5.0, 5.0]]), np.array([0.5, 0.0]))
    assert found == pytest.approx([ratio(1.0) * ratio(0.5), ratio(2.0) * ratio(0.5), 0.0], abs=1e-12)


def authors(x: torch.Tensor, y: torch.Tensor) -> float:
    """`hsic_normalized_cca` with its Gaussian kernel of width 50, as the formula of ChnQ/MI-Peaks has it."""
    size = len(x)
    centring = torch.eye(size, dtype=x.dtype) - torch.full((size, size), 1 / size, dtype=x.dtype)
    ratios = []
    for one in (x, y):
        kernel = torch.exp(-torch.square(one[:, None] - one[None, :]) / (2 * 50.0 * 50.0)) @ centring
        ratios.append(kernel @ torch.linalg.inv(kernel + 1e-5 * size * torch.eye(size, dtype=x.dtype)))
    return float((ratios[0] * ratios[1].T).sum())


def test_it_is_the_authors_formula() -> None:
    random = torch.Generator().manual_seed(0)
    states = 4 * torch.randn(5, 48, generator=random, dtype=torch.float64)
    reference = 4 * torch.randn(48, generator=random, dtype=torch.float64)
    found = information(states.numpy(), reference.numpy())
    assert found == pytest.approx([authors(state, reference) for state in states], abs=1e-7)
    assert found.max() < information(reference.numpy()[None], reference.numpy())[0]
