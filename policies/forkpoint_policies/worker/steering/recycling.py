"""A layer that is run again for chosen tokens, on its own output, with the keys and values of the first pass.

As these are kept, the second pass is one more query to them: what it computes depends on no other token that is run
again, so that prompts in pieces and resumed requests are exact. All tokens take the second pass, which is dropped for
those that are not chosen: under `torch.compile` and CUDA graphs the work cannot depend on the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

_AGAIN = "forkpoint_again"
_HIDDEN, _RESIDUAL = "hidden_states", "residual"


@dataclass
class _FirstPass:
    """Of the forward that runs: the layer's inputs, and its keys and values; `is_over` during the second pass."""

    hidden: Any = None
    residual: Any = None
    keys_values: Any = None
    is_over: bool = False

    def take(self, place_of: Mapping[str, int], args: Any, options: Any) -> None:
        """Keep the layer's inputs: vLLM adds and normalizes in place."""
        hidden, residual = (_input(name, place_of, args, options) for name in (_HIDDEN, _RESIDUAL))
        self.hidden = hidden.clone()
        self.residual = None if residual is None else residual.clone()


def attach_second_pass(layer: Module, attention: type[Module], again: Tensor) -> None:
    """Let a layer run twice for the tokens where `again` [T] is true, which is read in each forward.

    Raises ValueError for a layer whose inputs are not the hidden states, with or without a residual.
    """
    place_of, first = _places(layer), _FirstPass()
    (inner,) = (one for one in layer.modules() if isinstance(one, attention))
    layer.register_buffer(_AGAIN, again, persistent=False)

    def before_layer(_module: Module, args: Any, options: Any) -> None:
        first.take(place_of, args, options)

    def before_attention(_module: Module, args: Any) -> Any:
        if first.is_over:
            query, _, _, *others = args
            return (query, *first.keys_values, *others)
        first.keys_values = args[1:3]
        return args

    def after_layer(module: Any, args: Any, options: Any, output: Any) -> Any:
        chosen = getattr(module, _AGAIN)[: first.hidden.shape[0], None]
        inputs = _second_inputs(first, chosen, output)
        first.is_over = True
        second = module.forward(*_replaced(args, place_of, inputs), **_replaced_options(options, inputs))
        first.is_over = False
        first.hidden = first.residual = first.keys_values = None
        return _outputs(chosen, second, output)

    layer.register_forward_pre_hook(before_layer, with_kwargs=True)
    inner.register_forward_pre_hook(before_attention)
    layer.register_forward_hook(after_layer, with_kwargs=True)


@contextmanager
def second_pass_of_its_own(layer: Module, chosen: Tensor) -> Iterator[None]:
    """While this is open, a layer that runs outside of compiled code runs a second time for the tokens where `chosen`
    [T] is true: their input is replaced by their output, as if the layers before had computed that, keys and values
    with it."""
    place_of, first = _places(layer), _FirstPass()

    def before_layer(_module: Module, args: Any, options: Any) -> None:
        first.take(place_of, args, options)

    def after_layer(module: Any, args: Any, options: Any, output: Any) -> Any:
        own = chosen[: first.hidden.shape[0], None]
        inputs = _second_inputs(first, own, output)
        second = module.forward(*_replaced(args, place_of, inputs), **_replaced_options(options, inputs))
        return _outputs(own, second, output)

    handles = [
        layer.register_forward_pre_hook(before_layer, with_kwargs=True),
        layer.register_forward_hook(after_layer, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(layer: Module) -> Mapping[str, int]:
    """Which inputs of a layer are the hidden states, and the residual if it has one."""
    names = [*inspect.signature(layer.forward).parameters]
    if _HIDDEN not in names:
        raise ValueError(
            f"--recycle-layers: {type(layer).__name__} has no input {_HIDDEN!r}; leave --recycle-layers out"
        )
    return {name: names.index(name) for name in (_HIDDEN, _RESIDUAL) if name in names}


def _second_inputs(first: _FirstPass, chosen: Tensor, output: Any) -> dict[str, Tensor]:
    """The inputs of the second pass: the first one's output for the chosen tokens."""
    hidden, residual = output if isinstance(output, tuple) else (output, None)
    if first.residual is None:  # a layer without a residual, or the first of a model whose layers have one
        return {_HIDDEN: _mix(chosen, hidden if residual is None else hidden + residual, first.hidden)}
    return {_HIDDEN: _mix(chosen, hidden, first.hidden), _RESIDUAL: _mix(chosen, residual, first.residual)}


def _outputs(chosen: Tensor, second: Any, first: Any) -> Any:
    if not isinstance(first, tuple):
        return _mix(chosen, second, first)
    return tuple(_mix(chosen, one, other) for one, other in zip(second, first, strict=True))


def _mix(chosen: Tensor, second: Any, first: Any) -> Tensor:
    return torch.where(chosen, second, first)


def _input(name: str, place_of: Mapping[str, int], args: Any, options: Mapping[str, Any]) -> Any:
    place = place_of.get(name, len(args))
    return args[place] if place < len(args) else options.get(name)


def _replaced(args: Any, place_of: Mapping[str, int], inputs: Mapping[str, Tensor]) -> list[Any]:
    found = list(args)
    for name, value in inputs.items():
        if place_of[name] < len(found):
            found[place_of[name]] = value
    return found


def _replaced_options(options: Mapping[str, Any], inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: inputs.get(name, value) for name, value in options.items()}
