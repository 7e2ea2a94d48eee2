"""The hooks on a small model: what they add, and what they find in a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forkpoint_policies.worker.steering.hooks import Buffers, attach, decoder_layers
from forkpoint_policies.worker.steering.table import NOTHING, VectorRows, random_direction

WIDTH, TOKENS, ROWS = 4, 6, 3


class Attention(nn.Module):
    """Stands for vLLM's."""


class Pair(nn.Module):
    """A layer that returns a pair whose sum is the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()

    def forward(self, hidden: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return hidden * 2, residual + hidden


class Single(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * 2


class Odd(Single):
    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        return hidden, hidden, hidden


def hooked(layer: nn.Module) -> tuple[nn.ModuleList, Buffers]:
    layers = nn.ModuleList([layer, Single()])
    buffers = Buffers(torch.zeros(TOKENS, dtype=torch.int64), torch.zeros(TOKENS), max_positions=8)
    attach(layers, [0], ROWS, WIDTH, buffers)
    buffers.tables[0][1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    return layers, buffers


def test_each_token_gets_its_row_times_its_factor_and_others_keep_their_bits() -> None:
    layers, buffers = hooked(Pair())
    hidden, residual = torch.randn(2, 3, WIDTH)
    plain = Pair()(hidden, residual)
    assert all(torch.equal(*pair) for pair in zip(layers[0](hidden, residual), plain, strict=True))
    buffers.put(torch.tensor([0, 1, 0]), torch.tensor([0.0, 0.5, 0.0]))
    found = layers[0](hidden, residual)
    assert torch.equal(found[0], plain[0])
    assert torch.equal(found[1][[0, 2]], plain[1][[0, 2]])
    assert torch.equal(found[1][1], plain[1][1] + torch.tensor([0.5, 1.0, 1.5, 2.0]))
    buffers.clear()
    assert torch.equal(layers[0](hidden, residual)[1], plain[1])


def test_a_layer_that_returns_the_stream_alone() -> None:
    layers, buffers = hooked(Single())
    buffers.put(torch.tensor([1]), torch.tensor([1.0]))
    assert layers[0](torch.zeros(2, WIDTH)).tolist() == [[1.0, 2.0, 3.0, 4.0], [0.0] * WIDTH]


def test_a_layer_that_returns_something_else_is_an_error() -> None:
    layers, _ = hooked(Odd())
    with pytest.raises(ValueError, match="--hidden-layers: Odd returns neither the residual stream nor a pair"):
        layers[0](torch.zeros(2, WIDTH))


def test_the_decoder_layers_are_found() -> None:
    model = nn.Module()
    model.vision = nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])
    model.layers = nn.ModuleList([Single(), Single()])
    assert decoder_layers(model, 2, Attention) is model.layers
    with pytest.raises(ValueError, match="Module has 0 lists of 3 layers with one attention each"):
        decoder_layers(model, 3, Attention)


def test_rows_are_loaded_when_they_are_needed_and_not_taken_from_those_in_use() -> None:
    vectors = {name * 32: {0: np.full(WIDTH, value, np.float32)} for name, value in (("1a", 1), ("2b", 2), ("3c", 3))}
    table = torch.zeros(ROWS, WIDTH)
    rows = VectorRows({0: table}, vectors.get)
    first = rows.row("1a" * 32, is_placebo=False, in_use=set())
    placebo = rows.row("1a" * 32, is_placebo=True, in_use={first})
    assert {first, placebo} == {1, 2}
    assert table[first].tolist() == [1.0] * WIDTH
    assert float(table[placebo].norm()) == pytest.approx(float(table[first].norm()), rel=1e-6)
    assert not torch.allclose(table[placebo], table[first])
    assert rows.row("1a" * 32, is_placebo=False, in_use={placebo}) == first
    third = rows.row("2b" * 32, is_placebo=False, in_use={first})
    assert third == placebo
    assert table[third].tolist() == [2.0] * WIDTH
    assert rows.row("3c" * 32, is_placebo=False, in_use={first, third}) == NOTHING
    assert rows.row("4d" * 32, is_placebo=False, in_use=set()) == NOTHING
    assert table[NOTHING].tolist() == [0.0] * WIDTH


def test_a_random_direction_is_the_same_every_time() -> None:
    vector = np.array([3.0, 0.0, 0.0, 4.0], np.float32)
    one, other = (random_direction(vector, "ab" * 32, layer) for layer in (0, 1))
    assert np.array_equal(one, random_direction(vector, "ab" * 32, 0))
    assert not np.allclose(one, other)
    assert np.linalg.norm(one) == pytest.approx(5.0)
