"""The hook on the module that makes logits, on small modules of torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forkpoint_policies.worker.last_layer import LAST_LAYER, LastLayer, StateReading


class MakesLogits(nn.Module):
    def forward(self, lm_head: Any, hidden_states: Tensor) -> Tensor:
        return hidden_states.sum(dim=-1)


class Model(nn.Module):
    """A model whose language model makes its logits, as those that read images have it; `more` of these modules."""

    def __init__(self, more: int = 1) -> None:
        super().__init__()
        self.made = [MakesLogits() for _ in range(more)]
        self.inner = nn.ModuleList(nn.ModuleDict({"logits_processor": one}) for one in self.made)


class Worker(StateReading):
    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def get_model(self) -> nn.Module:
        return self.model


@pytest.mark.parametrize("by_name", [False, True])
def test_the_states_are_those_of_the_logits(by_name: bool) -> None:
    model, states = Model(), torch.randn(3, 4)
    assert Worker(model).forkpoint_read_states() == ""
    module: Any = model.made[0]
    logits = module(None, hidden_states=states) if by_name else module(None, states)
    assert torch.equal(logits, states.sum(dim=-1)), "the hook changes nothing"
    assert LAST_LAYER.take(3) is not None


@pytest.mark.parametrize("modules", [0, 2])
def test_another_kind_of_model_is_refused(modules: int) -> None:
    assert f"{modules} modules that make logits" in Worker(Model(modules)).forkpoint_read_states()


def test_logits_in_parts_have_their_own_states() -> None:
    layer, states = LastLayer(), torch.randn(5, 4)
    assert layer.take(2) is None
    layer.put(states)
    parts = [layer.take(2), layer.take(3)]
    assert [part is not None and torch.equal(part, own) for part, own in zip(parts, states.split([2, 3]), strict=True)]
    assert layer.take(1) is None, "more rows than the model has computed states for"
