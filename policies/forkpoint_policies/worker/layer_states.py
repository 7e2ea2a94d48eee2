"""The hidden states of hooked layers in a step: the model runs a second time, and hooks keep its residual streams.

The first run is what all requests get. The second is not compiled and writes no keys and values, so that it changes
nothing; it happens only in steps of requests that keep such states.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor
from torch.nn import Module

from .kept_states import layer_name


class LayerStates:
    """`states` are those of the step that runs, [rows, D], by the names of their tensors in a request's file."""

    def __init__(self) -> None:
        self._layers: dict[str, Module] = {}
        self._wanted: dict[int, set[str]] = {}  # by slot
        self.states: Mapping[str, Tensor] = {}
        self.rows: Tensor | None = None
        """The tokens of the batch that are sampled from, [rows], as the V2 model runner has them; None on V1."""

    def attach(self, layers: Mapping[int, Module]) -> None:
        """The hooked layers of the model that this process runs, by number."""
        self._layers = {layer_name(number): layer for number, layer in layers.items()}

    def want(self, slot: int, names: Collection[str]) -> None:
        """From now on the request in a slot keeps these states; those of layers that are not hooked are not known."""
        if wanted := {*names} & self._layers.keys():
            self._wanted[slot] = wanted

    def forget(self, slot: int) -> None:
        """Free a slot, if its request keeps states."""
        self._wanted.pop(slot, None)
        if not self._wanted:
            self.states = {}

    @property
    def is_wanted(self) -> bool:
        """Whether a request of the step that runs keeps states of layers."""
        return bool(self._wanted)

    def read(self, run: Callable[[], object], rows: Tensor) -> None:
        """Run the model, and keep each wanted layer's stream at these tokens of the batch [rows]."""
        found: dict[str, Tensor] = {}

        def keeper(name: str) -> Callable[..., None]:
            def keep(_module: Module, _args: Any, output: Any) -> None:
                found[name] = stream_of(output)[rows]

            return keep

        with ExitStack() as hooks:
            for name in {name for names in self._wanted.values() for name in names}:
                handle = self._layers[name].register_forward_hook(keeper(name))
                hooks.callback(handle.remove)
            run()
        self.states = found


def stream_of(output: Any) -> Tensor:
    """The residual stream after a layer, which returns it, or a pair whose sum it is."""
    stream: Tensor = output[0] + output[1] if isinstance(output, tuple) else output
    return stream


LAYER_STATES = LayerStates()
"""Of this process."""
