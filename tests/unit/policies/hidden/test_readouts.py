"""Readouts of states: the numbers of the formula, and the same bits alone and in any batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.hidden.readouts import Readout, fixed_order_sum, logistic, read_out
from tests.unit.policies.hidden.artefact_files import mlp_readout, readout

MODEL = Model("Qwen3ForCausalLM", 37)
STATES = torch.randn(9, 37, generator=torch.Generator().manual_seed(3))
LINEAR, MLP = readout(model=MODEL), mlp_readout(MODEL, units=5)


def expected(artefact: Artefact) -> list[float]:
    tensors = {name: array.astype(np.float64) for name, array in artefact.tensors.items()}
    states = STATES.double().numpy()
    if "weight" in tensors:
        return [1 / (1 + math.exp(-number)) for number in states @ tensors["weight"] + tensors["bias"]]
    inner = np.maximum(states @ tensors["w1"].T + tensors["b1"], 0)
    found: list[float] = (inner @ tensors["w2"] + tensors["b2"]).tolist()
    return found


@pytest.mark.parametrize("artefact", [LINEAR, MLP], ids=["linear", "mlp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_formula(artefact: Artefact, dtype: torch.dtype) -> None:
    found = Readout.of(artefact, torch.device("cpu")).values(STATES.to(dtype))
    assert found == pytest.approx(expected(artefact), rel=1e-12)


@pytest.mark.parametrize("artefact", [LINEAR, MLP], ids=["linear", "mlp"])
def test_the_same_bits_in_any_batch(artefact: Artefact) -> None:
    own = Readout.of(artefact, torch.device("cpu"))
    alone = [own.values(state[None])[0] for state in STATES]
    assert own.values(STATES) == alone
    assert own.values(STATES.flip(0).repeat(50, 1))[:9] == alone[::-1]


def test_each_row_has_its_requests_readouts() -> None:
    first, second = (Readout.of(one, torch.device("cpu")) for one in (LINEAR, MLP))
    found = read_out([(first,), (), (second, None, first), (first, second)], STATES[:4], 4)
    assert [[math.isnan(value) for value in row] for row in found] == [
        [False, True, True, True], [True] * 4, [False, True, False, True], [False, False, True, True],
    ]  # fmt: skip
    linear, mlp = expected(LINEAR), expected(MLP)
    assert [found[0][0], found[2][0], found[2][2], *found[3][:2]] == pytest.approx(
        [linear[0], mlp[2], linear[2], linear[3], mlp[3]]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 192])
def test_the_sum_is_that_of_all_terms(size: int) -> None:
    terms = torch.randn(2, size, dtype=torch.float64, generator=torch.Generator().manual_seed(size))
    assert fixed_order_sum(terms).tolist() == pytest.approx(terms.sum(dim=-1).tolist(), abs=1e-12)


def test_no_number_is_too_large_for_a_probability() -> None:
    assert [logistic(number) for number in (-1e9, 0.0, 1e9)] == [0.0, 0.5, 1.0]
