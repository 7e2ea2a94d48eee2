"""A layer that is run again: what its second pass reads and keeps, and for which tokens a rule that fires wants it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.steering.hooks import Buffers
from forkpoint_policies.worker.steering.recycling import attach_second_pass
from forkpoint_policies.worker.steering.shared import STEERING, Requests
from tests.unit.policies.factories import CPU, Request, policy, random_logits, rule, step
from tests.unit.policies.vocabularies import SIZE, TARGET

WIDTH, TOKENS, LAYERS = 4, 5, (1, 7)
SERVED = replace(TARGET, recycle_layers=LAYERS)


class Attention(nn.Module):
    """Each token asks all tokens before it. `written` are the keys and values of each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[tuple[Tensor, Tensor]] = []

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.written.append((key, value))
        return torch.softmax((query @ key.T).tril(), dim=-1) @ value


class Layer(nn.Module):
    """A layer like vLLM's: it adds in place, and returns a pair whose sum is the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, positions: Tensor, hidden_states: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        residual = hidden_states.clone() if residual is None else residual.add_(hidden_states)
        return self.attention(*self.qkv(residual).split(WIDTH, dim=-1)), residual


class Single(Layer):
    """A layer that returns the stream alone."""

    def forward(self, hidden_states: Tensor, scale: float = 1.0) -> Tensor:  # type: ignore[override]
        pair: tuple[Tensor, Tensor] = super().forward(torch.arange(len(hidden_states)), hidden_states, None)
        return scale * (pair[0] + pair[1])


class Odd(Layer):
    def forward(self, states: Tensor) -> Tensor:  # type: ignore[override]
        return states


def by_hand(layer: Layer, stream: Tensor, chosen: Tensor) -> Tensor:
    """The stream after the layer, with a second query for the chosen tokens to the first pass's keys and values."""
    query, key, value = layer.qkv(stream).split(WIDTH, dim=-1)
    once = Attention()(query, key, value) + stream
    read = torch.where(chosen[:, None], once, stream)
    again = Attention()(layer.qkv(read).split(WIDTH, dim=-1)[0], key, value) + read
    return torch.where(chosen[:, None], again, once)


@pytest.fixture
def hooked() -> tuple[Layer, Tensor]:
    torch.manual_seed(1)
    layer, again = Layer(), torch.zeros(TOKENS + 3, dtype=torch.bool)
    attach_second_pass(layer, Attention, again)
    return layer, again


@pytest.mark.parametrize("is_first", [True, False])
@torch.inference_mode()
def test_chosen_tokens_take_the_second_pass_and_others_keep_their_bits(
    hooked: tuple[Layer, Tensor], is_first: bool
) -> None:
    layer, again = hooked
    stream = torch.randn(TOKENS, WIDTH)
    half = torch.randn(TOKENS, WIDTH)
    inputs = (stream, None) if is_first else (stream - half, half)

    def run() -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = layer(torch.arange(TOKENS), *(None if x is None else x.clone() for x in inputs))
        return found

    plain = run()
    again[1], again[3] = True, True
    layer.attention.written.clear()
    changed = run()
    for one, other in zip(changed, plain, strict=True):
        assert torch.equal(one[[0, 2, 4]], other[[0, 2, 4]])
    expected = by_hand(layer, stream, again[:TOKENS])
    assert (sum(changed) - expected).abs().max() < 1e-5
    assert (sum(plain) - expected).abs().max() > 1e-2
    (keys, values), (keys_again, values_again) = layer.attention.written
    assert torch.equal(keys, keys_again)
    assert torch.equal(values, values_again)


@torch.inference_mode()
def test_a_layer_that_returns_the_stream_alone_and_gets_it_by_name() -> None:
    layer, again = Single(), torch.tensor([False, True, False])
    attach_second_pass(layer, Attention, again)
    stream = torch.randn(3, WIDTH)
    found = layer(hidden_states=stream, scale=1.0)
    assert (found - by_hand(layer, stream, again)).abs().max() < 1e-5


def test_a_layer_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="--recycle-layers: Odd has no input 'hidden_states'"):
        attach_second_pass(Odd(), Attention, torch.zeros(1, dtype=torch.bool))


@pytest.fixture(params=["compiled", "torch"])
def buffers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buffers]:
    """Those of a model with two layers that can be run again."""
    monkeypatch.setenv(KERNEL_VARIABLE, request.param)
    made = Buffers(torch.zeros(16, dtype=torch.int64), torch.zeros(16), max_positions=64)
    made.again.update({layer: torch.zeros(16, dtype=torch.bool) for layer in LAYERS})
    STEERING.attach(made)
    yield made
    STEERING.attach(Buffers(torch.zeros(0, dtype=torch.int64), torch.zeros(0), max_positions=0))


def chosen_by(buffers: Buffers, *rules: dict[str, Any], tokens: int = 10, **options: Any) -> dict[int, list[int]]:
    """The tokens of an answer for which each layer is run again, when it is computed as a whole beside another one."""
    program = compile_policy(parse_policy({**policy(*rules), **options}), SERVED).program
    slots = PolicySlots(2, SIZE, CPU)
    slots.add(1, Request(program).payload(), 1.0, [])
    for position in range(tokens):
        step(slots, [1], [position], [position], random_logits(1, SIZE))
    requests = Requests(np.array([-1, 1], np.int32), torch.tensor([2, 3]))
    if not STEERING.changes(requests.slots):
        return {}
    positions = torch.cat([torch.arange(2), torch.arange(3 + tokens)])
    STEERING.place(
        requests, torch.tensor([0, 2, 5 + tokens]), positions, torch.zeros(len(positions), dtype=torch.int32)
    )
    found = {layer: np.flatnonzero(own.numpy()) - 5 for layer, own in buffers.again.items()}
    return {layer: own.tolist() for layer, own in found.items() if len(own)}


def test_a_rule_that_fires_chooses_tokens(buffers: Buffers) -> None:
    assert chosen_by(buffers, rule({"every": 4}, recycle={"layer": 7, "tokens": 2})) == {7: [0, 1, 4, 5, 8, 9]}
    STEERING.clear()
    assert not any(own.any() for own in buffers.again.values())


def test_two_layers_of_which_a_token_takes_that_of_the_last_rule(buffers: Buffers) -> None:
    one = rule({"every": 2}, recycle={"layer": 1})
    other = rule({"every": 6}, recycle={"layer": 7, "from": "here"})
    assert chosen_by(buffers, one, other) == {1: [0, 2, 4, 6, 8], 7: [5]}
    assert chosen_by(buffers, one, rule({"every": 4}, recycle={"layer": 7})) == {1: [2, 6], 7: [0, 4, 8]}


def test_nothing_is_run_again_in_shadow(buffers: Buffers) -> None:
    assert chosen_by(buffers, rule({"every": 4}, recycle={"layer": 7}), shadow=True) == {}
