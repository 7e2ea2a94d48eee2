"""A layer that is run again for chosen tokens, on its own output, with the keys and values of the first pass.

As these are kept, the second pass is one more query to them: what it computes depends on no other token that is run
again, so that prompts in pieces and resumed requests are exact. All tokens take the second pass, which is dropped for
those that are not chosen: under `torch.compile` and CUDA graphs the work cannot depend on the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
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


def attach_second_pass(layer: Module, attention: type[Module], again: Tensor) -> None:
    """Let a layer run twice for the tokens where `again` [T] is true, which is read in each forward.

    Raises ValueError for a layer whose inputs are not the hidden states, with or without a residual.
    """
    names = [*inspect.signature(layer.forward).parameters]
    if _HIDDEN not in names:
        raise ValueError(
            f"--recycle-layers: {type(layer).__name__} has no input {_HIDDEN!r}; leave --recycle-layers out"
        )
    place_of = {name: names.index(name) for name in (_HIDDEN, _RESIDUAL) if name in names}
    first = _FirstPass()
    (inner,) = (one for one in layer.modules() if isinstance(one, attention))
    layer.register_buffer(_AGAIN, again, persistent=False)

    def before_layer(_module: Module, args: Any, options: Any) -> None:
        hidden, residual = (_input(name, place_of, args, options) for name in (_HIDDEN, _RESIDUAL))
        # vLLM adds and normalizes in place
        first.hidden = hidden.clone()
        first.residual = None if residual is None else residual.clone()

    def before_attention(_module: Module, args: Any) -> Any:
        if first.is_over:
            query, _, _, *others = args
            return (query, *first.keys_values, *others)
        first.keys_values = args[1:3]
        return args

    def after_layer(module: Any, args: Any, options: Any, output: Any) -> Any:
        is_pair = isinstance(output, tuple)
        chosen = getattr(module, _AGAIN)[: first.hidden.shape[0], None]
        hidden, residual = output if is_pair else (output, None)
        if first.residual is None:  # a layer without a residual, or the first of a model whose layers have one
            inputs = {_HIDDEN: _mix(chosen, hidden if residual is None else hidden + residual, first.hidden)}
        else:
            inputs = {
                _HIDDEN: _mix(chosen, hidden, first.hidden),
                _RESIDUAL: _mix(chosen, residual, first.residual),
            }
        first.is_over = True
        second = module.forward(*_replaced(args, place_of, inputs), **_replaced_options(options, inputs))
        first.is_over = False
        first.hidden = first.residual = first.keys_values = None
        if not is_pair:
            return _mix(chosen, second, output)
        return tuple(_mix(chosen, one, other) for one, other in zip(second, output, strict=True))

    layer.register_forward_pre_hook(before_layer, with_kwargs=True)
    inner.register_forward_pre_hook(before_attention)
    layer.register_forward_hook(after_layer, with_kwargs=True)


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
