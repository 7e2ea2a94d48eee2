"""The signals against float64, and sums that do not depend on the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from forkpoint_policies.signals import CHUNK, measure, stable_sum, total_variation, weight_at
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from . import reference

SIZES = (1, 2, 7, 64, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17, 20_000)


def rows_of_logits(rows: int, vocabulary: int, seed: int, scale: float = 4.0, impossible: float = 0.1) -> Tensor:
    """Random logits of which a part is -inf; the first of each row is not."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=generator) * scale
    holes = torch.rand(rows, vocabulary, generator=generator) < impossible
    holes[:, 0] = False
    return logits.masked_fill(holes, -torch.inf)


@pytest.mark.parametrize("vocabulary", SIZES)
@pytest.mark.parametrize("scale", [0.01, 1.0, 6.0, 40.0])
def test_signals_are_those_of_float64(vocabulary: int, scale: float) -> None:
    logits = rows_of_logits(5, vocabulary, seed=vocabulary, scale=scale)
    signals = measure(logits)
    for row, values in enumerate(logits.numpy()):
        exact = reference.distribution(values)
        assert signals.entropy[row].item() == pytest.approx(reference.entropy(exact), rel=1e-5, abs=1e-5)
        assert signals.varentropy[row].item() == pytest.approx(reference.varentropy(exact), rel=1e-4, abs=1e-4)
        assert signals.top_probability[row].item() == pytest.approx(exact.max(), rel=1e-5)
        assert signals.possible[row].item() == np.isfinite(values).sum()
        assert signals.peak[row].item() == values.max()


def test_signals_do_not_change_with_an_offset_of_the_logits() -> None:
    logits = rows_of_logits(4, 1000, seed=1)
    near, far = measure(logits), measure(logits + 4096.0)
    assert torch.allclose(near.entropy, far.entropy, atol=5e-3)
    assert torch.allclose(near.top_probability, far.top_probability, atol=1e-3)


def test_a_certain_token_has_no_entropy() -> None:
    logits = torch.full((2, 500), -torch.inf)
    logits[0, 3] = 12.0
    logits[1] = 0.0
    logits[1, 4] = 200.0
    signals = measure(logits)
    assert signals.entropy.tolist() == pytest.approx([0.0, 0.0], abs=1e-30)
    assert signals.varentropy.tolist() == pytest.approx([0.0, 0.0], abs=1e-30)
    assert signals.top_probability.tolist() == [1.0, 1.0]
    assert signals.possible.tolist() == [1, 500]


def test_equal_logits_have_the_entropy_of_their_number() -> None:
    signals = measure(torch.full((1, 5000), -7.5))
    assert signals.entropy.item() == pytest.approx(math.log(5000), rel=1e-6)
    assert signals.varentropy.item() == pytest.approx(0, abs=1e-4)


def test_a_row_without_a_possible_token_gives_numbers() -> None:
    logits = rows_of_logits(3, 100, seed=2)
    logits[1] = -torch.inf
    signals = measure(logits)
    assert (signals.entropy[1].item(), signals.varentropy[1].item(), signals.possible[1].item()) == (0.0, 0.0, 0)
    for name in ("peak", "total", "entropy", "varentropy", "top_probability"):
        assert torch.isfinite(getattr(signals, name)).all(), name


@given(rows=st.integers(2, 20), vocabulary=st.sampled_from([*SIZES, 40_000]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_row_has_the_same_signals_alone(rows: int, vocabulary: int, seed: int) -> None:
    logits = rows_of_logits(rows, vocabulary, seed)
    temperature = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) + 0.1
    together = measure(logits)
    weights = weight_at(logits, together.peak, temperature)
    distances = total_variation(logits, temperature, temperature * 1.5)
    for row in range(rows):
        one = slice(row, row + 1)
        alone = measure(logits[one].clone())
        for name in ("peak", "total", "entropy", "varentropy", "top_probability", "possible"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[one]), name
        assert torch.equal(weight_at(logits[one].clone(), alone.peak, temperature[one]), weights[one])
        assert torch.equal(total_variation(logits[one].clone(), temperature[one], temperature[one] * 1.5), distances[one])


@pytest.mark.parametrize("width", [*SIZES, 0])
def test_stable_sum_is_the_sum(width: int) -> None:
    values = torch.rand(3, width, generator=torch.Generator().manual_seed(width))
    assert stable_sum(values).numpy() == pytest.approx(values.numpy().astype(np.float64).sum(axis=-1), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0])
def test_weights_at_a_temperature_are_those_of_float64(temperature: float) -> None:
    logits = rows_of_logits(4, 3 * CHUNK + 17, seed=3)
    peak = logits.amax(dim=-1)
    exact = np.exp((logits.numpy().astype(np.float64) - peak.numpy()[:, None]) / temperature).sum(axis=-1)
    assert weight_at(logits, peak, torch.full((4,), temperature)).numpy() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(("before", "after"), [(1.0, 1.2), (1.0, 0.5), (0.3, 0.9), (2.0, 2.0)])
def test_total_variation_is_that_of_float64(before: float, after: float) -> None:
    logits = rows_of_logits(4, 3 * CHUNK + 17, seed=4)
    found = total_variation(logits, torch.full((4,), before), torch.full((4,), after))
    for row, values in enumerate(logits.numpy()):
        exact = reference.distance(reference.distribution(values, before), reference.distribution(values, after))
        assert found[row].item() == pytest.approx(exact, rel=1e-4, abs=1e-6)
    if before == after:
        assert found.tolist() == [0.0] * 4


def test_total_variation_of_a_row_without_a_possible_token_is_nothing() -> None:
    assert total_variation(torch.full((2, 50), -torch.inf), torch.ones(2), torch.full((2,), 2.0)).tolist() == [0.0, 0.0]
