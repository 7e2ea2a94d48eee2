"""The states of hooked layers: what a second run leaves, and when there is one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forkpoint_policies.worker.layer_states import LayerStates


class Pair(nn.Module):
    """A layer that returns a pair whose sum is the stream."""

    def forward(self, hidden: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        return hidden * 2, residual + hidden


class Single(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0] + pair[1] + 1


def test_the_streams_of_the_wanted_layers_at_the_rows() -> None:
    first, second = Pair(), Single()
    states = LayerStates()
    states.attach({4: first, 7: second})
    states.want(3, ["last", "layer.4", "layer.7", "layer.9"])
    assert states.is_wanted
    hidden, residual = torch.randn(2, 5, 6)
    states.read(lambda: second(first(hidden, residual)), torch.tensor([1, 4]))
    stream = hidden * 2 + (residual + hidden)
    assert states.states.keys() == {"layer.4", "layer.7"}
    assert torch.equal(states.states["layer.4"], stream[[1, 4]])
    assert torch.equal(states.states["layer.7"], stream[[1, 4]] + 1)
    assert not first._forward_hooks
    states.forget(3)
    assert not states.states


def test_the_last_layer_alone_needs_no_second_run() -> None:
    states = LayerStates()
    states.attach({4: Pair()})
    states.want(3, ["last"])
    assert not states.is_wanted


def test_when_the_request_is_gone_there_is_none() -> None:
    states = LayerStates()
    states.attach({4: Pair()})
    states.want(3, ["layer.4"])
    states.forget(3)
    assert not states.is_wanted
