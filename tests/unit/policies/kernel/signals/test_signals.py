"""The signals on a CPU, by numba and by torch, against float64; and sums that do not depend on the batch."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from forkpoint_policies.kernel import row_threads, signals
from forkpoint_policies.kernel.signals import Signals, in_numba, in_torch, stable_sum
from forkpoint_policies.kernel.signals.in_torch import CHUNK
from tests.unit.policies import float64_reference

NAMES = ("peak", "total", "entropy", "varentropy", "top_probability")
SIZES = (1, 2, 5, 64, CHUNK - 1, CHUNK, CHUNK + 1, 1500, 3 * CHUNK + 17, 20_000)
WHOLE = 151_936  # the vocabulary of Qwen3

both = pytest.mark.parametrize("by", [in_numba, in_torch], ids=["numba", "torch"])


def rows_of_logits(rows: int, vocabulary: int, seed: int, scale: float = 4.0, impossible: float = 0.1) -> Tensor:
    """Random logits of which some are -inf, but never the first of a row."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, vocabulary, generator=generator) * scale
    holes = torch.rand(rows, vocabulary, generator=generator) < impossible
    holes[:, 0] = False
    return logits.masked_fill(holes, -torch.inf)


def assert_exact(found: Signals, logits: Tensor) -> None:
    for row, values in enumerate(logits.numpy()):
        exact = float64_reference.distribution(values)
        assert found.entropy[row].item() == pytest.approx(float64_reference.entropy(exact), rel=1e-6, abs=3e-6)
        assert found.varentropy[row].item() == pytest.approx(float64_reference.varentropy(exact), rel=1e-5, abs=3e-5)
        assert found.top_probability[row].item() == pytest.approx(exact.max(), rel=1e-6)
        assert found.total[row].item() == pytest.approx(1 / exact.max(), rel=1e-6)
        assert found.peak[row].item() == values.max()


def assert_same_bits(one: Signals, other: Signals, rows: slice) -> None:
    for name in NAMES:
        assert torch.equal(getattr(one, name), getattr(other, name)[rows]), name


@both
@pytest.mark.parametrize("vocabulary", [*SIZES, WHOLE])
@pytest.mark.parametrize("scale", [0.01, 1.0, 6.0, 40.0])
def test_signals_are_those_of_float64(by: signals.Implementation, vocabulary: int, scale: float) -> None:
    logits = rows_of_logits(3, vocabulary, seed=vocabulary, scale=scale)
    assert_exact(by.measure(logits), logits)


@both
@pytest.mark.parametrize("offset", [-1e4, 1e4, 1e30])
def test_huge_logits(by: signals.Implementation, offset: float) -> None:
    logits = rows_of_logits(2, 1500, seed=5, scale=100.0) + offset
    assert_exact(by.measure(logits), logits)


@both
def test_logits_from_end_to_end_of_float32(by: signals.Implementation) -> None:
    largest = torch.finfo(torch.float32).max
    logits = torch.tensor([[-largest, 0.0, largest], [-largest, -largest, -largest], [largest, largest, -torch.inf]])
    found = by.measure(logits)
    assert found.peak.tolist() == [largest, -largest, largest]
    assert found.total.tolist() == [1.0, 3.0, 2.0]
    assert found.entropy.tolist() == pytest.approx([0.0, math.log(3), math.log(2)])
    assert found.varentropy.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


@both
def test_a_certain_token_has_no_entropy(by: signals.Implementation) -> None:
    logits = torch.full((2, 500), -torch.inf)
    logits[0, 3] = 12.0
    logits[1] = 0.0
    logits[1, 4] = 200.0
    found = by.measure(logits)
    assert found.entropy.tolist() == pytest.approx([0.0, 0.0], abs=1e-30)
    assert found.varentropy.tolist() == pytest.approx([0.0, 0.0], abs=1e-30)
    assert found.top_probability.tolist() == [1.0, 1.0]


@both
def test_equal_logits_have_the_entropy_of_their_number(by: signals.Implementation) -> None:
    found = by.measure(torch.full((1, 5000), -7.5))
    assert found.entropy.item() == pytest.approx(math.log(5000), rel=1e-6)
    assert found.varentropy.item() == pytest.approx(0, abs=1e-6)
    assert found.total.item() == 5000


@both
def test_a_row_without_a_possible_token_is_certain(by: signals.Implementation) -> None:
    logits = rows_of_logits(3, 2000, seed=2)
    logits[1] = -torch.inf
    found = by.measure(logits)
    assert {name: getattr(found, name)[1].item() for name in NAMES} == {
        "peak": 0.0,
        "total": 1.0,
        "entropy": 0.0,
        "varentropy": 0.0,
        "top_probability": 1.0,
    }
    assert_exact(by.measure(logits[::2].clone()), logits[::2])


@both
@pytest.mark.parametrize("vocabulary", [700, 5 * CHUNK])
def test_impossible_tokens_add_nothing(by: signals.Implementation, vocabulary: int) -> None:
    """The result has the same bits as with very low logits for the impossible tokens."""
    logits = rows_of_logits(4, vocabulary, seed=8, impossible=0.5)
    assert_same_bits(by.measure(logits), by.measure(logits.nan_to_num(neginf=-1e9)), slice(None))


@both
def test_rows_may_lie_anywhere(by: signals.Implementation) -> None:
    logits = rows_of_logits(6, 3000, seed=9)
    ones, twos = torch.ones(6), torch.full((6,), 2.0)
    expected = by.measure(logits)
    transposed = logits.t().contiguous().t()
    spaced = torch.full((12, 3100), 50.0)
    spaced[::2, 40:3040] = logits
    for other in (transposed, spaced[::2, 40:3040]):
        assert not other.is_contiguous()
        assert_same_bits(by.measure(other), expected, slice(None))
        assert torch.equal(by.weight_at(other, expected.peak, twos), by.weight_at(logits, expected.peak, twos))
        assert torch.equal(by.total_variation(other, ones, twos), by.total_variation(logits, ones, twos))
    assert_same_bits(by.measure(logits[2:3].expand(4, 3000)), by.measure(logits[2:3].repeat(4, 1)), slice(None))


@both
def test_the_weight_of_a_row_without_a_possible_token_can_be_divided_by(by: signals.Implementation) -> None:
    found = by.weight_at(torch.full((2, 3000), -torch.inf), torch.zeros(2), torch.tensor([0.5, 1.0]))
    assert ((found >= signals.MIN_WEIGHT) & (found < 1e-30)).all()


@both
def test_no_rows(by: signals.Implementation) -> None:
    nothing = torch.empty(0)
    assert by.measure(torch.empty(0, 100)).entropy.shape == (0,)
    assert by.weight_at(torch.empty(0, 100), nothing, nothing).shape == (0,)
    assert by.total_variation(torch.empty(0, 100), nothing, nothing).shape == (0,)


@both
@given(rows=st.integers(2, 20), vocabulary=st.sampled_from([*SIZES, 40_000]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_row_has_the_same_signals_alone(by: signals.Implementation, rows: int, vocabulary: int, seed: int) -> None:
    logits = rows_of_logits(rows, vocabulary, seed)
    temperature = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) + 0.1
    together = by.measure(logits)
    weights = by.weight_at(logits, together.peak, temperature)
    distances = by.total_variation(logits, temperature, temperature * 1.5)
    for row in range(rows):
        one = slice(row, row + 1)
        alone = by.measure(logits[one].clone())
        assert_same_bits(alone, together, one)
        assert torch.equal(by.weight_at(logits[one].clone(), alone.peak, temperature[one]), weights[one])
        assert torch.equal(
            by.total_variation(logits[one].clone(), temperature[one], temperature[one] * 1.5), distances[one]
        )


@pytest.fixture
def four_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(row_threads, "_pool", lambda process: pool)
        monkeypatch.setattr(row_threads, "_cores", lambda: frozenset(range(4)))
        monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
        yield


def test_rows_on_threads_have_the_same_signals(four_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = rows_of_logits(11, 3000, seed=6)
    expected = in_numba.measure(logits)
    monkeypatch.setattr(row_threads, "ELEMENTS_PER_THREAD", 3000)
    swept: list[tuple[int, int]] = []
    in_numba._over_rows(11, 3000, lambda start, end: swept.append((start, end)))
    assert sorted(swept) == [(0, 2), (2, 5), (5, 8), (8, 11)]
    assert_same_bits(in_numba.measure(logits), expected, slice(None))


def test_an_error_on_a_thread_is_not_lost(four_threads: None) -> None:
    def sweep(start: int, end: int) -> None:
        if start == 48:
            raise ValueError(end)

    with pytest.raises(ValueError, match="64"):
        in_numba._over_rows(64, WHOLE, sweep)


def test_the_pool_computes_on_this_threads_cores() -> None:
    assert row_threads._cores() <= os.sched_getaffinity(0)
    with row_threads._pool.__wrapped__(os.getpid()) as pool:
        assert pool.submit(os.sched_getaffinity, 0).result() == row_threads._cores()


@pytest.mark.parametrize("width", [*SIZES, 0])
def test_stable_sum_is_the_sum(width: int) -> None:
    values = torch.rand(3, width, generator=torch.Generator().manual_seed(width))
    assert stable_sum(values).numpy() == pytest.approx(values.numpy().astype(np.float64).sum(axis=-1), rel=1e-5)


@both
@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("vocabulary", [5, 3 * CHUNK + 17, WHOLE])
def test_weights_at_a_temperature_are_those_of_float64(
    by: signals.Implementation, temperature: float, vocabulary: int
) -> None:
    logits = rows_of_logits(3, vocabulary, seed=3)
    peak = logits.amax(dim=-1)
    used = np.float64(np.float32(temperature))
    exact = np.exp((logits.numpy().astype(np.float64) - peak.numpy()[:, None]) / used).sum(axis=-1)
    assert by.weight_at(logits, peak, torch.full((3,), temperature)).numpy() == pytest.approx(exact, rel=2e-6)


@both
def test_weights_beside_another_peak(by: signals.Implementation) -> None:
    """The peak may be that of the row before tokens were masked or raised."""
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [-torch.inf, -torch.inf]])
    found = by.weight_at(logits, torch.tensor([30.0, -30.0, 0.0]), torch.ones(3))
    exact = np.exp([-30.0, -29.0]).sum(), np.exp([30.0, 31.0]).sum(), 0.0
    assert found.numpy() == pytest.approx(exact, rel=2e-6, abs=1e-30)


@both
@pytest.mark.parametrize(("before", "after"), [(1.0, 1.2), (1.0, 0.5), (0.3, 0.9), (2.0, 2.0), (0.01, 50.0)])
@pytest.mark.parametrize("vocabulary", [1, 5, 3 * CHUNK + 17, WHOLE])
def test_total_variation_is_that_of_float64(
    by: signals.Implementation, before: float, after: float, vocabulary: int
) -> None:
    logits = rows_of_logits(3, vocabulary, seed=4)
    found = by.total_variation(logits, torch.full((3,), before), torch.full((3,), after))
    for row, values in enumerate(logits.numpy()):
        exact = float64_reference.distance(
            float64_reference.distribution(values, before), float64_reference.distribution(values, after)
        )
        assert found[row].item() == pytest.approx(exact, rel=1e-5, abs=1e-6)
    if before == after:
        assert found.tolist() == [0.0] * 3


@both
def test_total_variation_of_a_row_without_a_possible_token_is_nothing(by: signals.Implementation) -> None:
    assert by.total_variation(torch.full((2, 50), -torch.inf), torch.ones(2), torch.full((2,), 2.0)).tolist() == [
        0.0,
        0.0,
    ]


def test_the_exponential_is_exact_to_rounding() -> None:
    values = np.linspace(-87, 88, 20_001, dtype=np.float32)
    found = np.array([in_numba.exponential(value) for value in values], np.float64)
    assert found == pytest.approx(np.exp(values.astype(np.float64)), rel=1.3e-7)
    assert in_numba.exponential(np.float32(0.0)) == 1.0


@pytest.fixture
def afresh() -> None:
    signals.implementation.cache_clear()


def test_numba_measures_on_a_cpu(afresh: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    signals.warm_up()
    logits = rows_of_logits(2, 100, seed=7)
    found, temperature = signals.measure(logits), torch.full((2,), 0.5)
    assert signals.implementation("cpu") is in_numba
    assert caplog.messages == ["Signals on cpu: numba, in one fused sweep per row."]
    assert_same_bits(found, in_numba.measure(logits), slice(None))
    weight = signals.weight_at(logits, found.peak, temperature)
    assert torch.equal(weight, in_numba.weight_at(logits, found.peak, temperature))
    distance = signals.total_variation(logits, torch.ones(2), temperature)
    assert torch.equal(distance, in_numba.total_variation(logits, torch.ones(2), temperature))


@pytest.mark.parametrize(("device", "module", "said"), [("cpu", "in_numba", "numba"), ("cuda", "in_triton", "Triton")])
def test_torch_measures_without_them_and_a_warning_is_logged(
    device: str, module: str, said: str, afresh: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(signals, module, raising=False)
    monkeypatch.setitem(sys.modules, f"forkpoint_policies.kernel.signals.{module}", None)
    assert signals.implementation(device) is in_torch
    assert [(record.levelname, f"as {said} cannot be imported" in record.message) for record in caplog.records] == [
        ("WARNING", True)
    ]
    signals.implementation.cache_clear()
