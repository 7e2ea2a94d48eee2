"""The hooks in the model: at each hooked layer, every token's row of a table is added to the residual stream.

They are plain tensor operations over persistent buffers, which `torch.compile` and CUDA graphs take in: what a request
does is data. A token that nothing is added to has row 0, which is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ModuleList

_TABLE, _ROW_OF, _SCALE = "forkpoint_vectors", "forkpoint_vector_of", "forkpoint_scale"


@dataclass(frozen=True)
class Buffers:
    """What the hooks read. `row_of` and `scale` are written before each forward, for T tokens at most."""

    row_of: Tensor  # [T] int64, rows of the tables
    scale: Tensor  # [T], in the model's type
    max_positions: int  # of a request, prompt and answer
    tables: dict[int, Tensor] = field(default_factory=dict)  # by layer: [rows, D], in the model's type
    again: dict[int, Tensor] = field(default_factory=dict)  # by layer that is run again: [T] bool, for which tokens

    def clear(self) -> None:
        """Add nothing to any token, and run no layer again."""
        for values in (self.row_of, self.scale, *self.again.values()):
            values.zero_()

    def put(self, row_of: Tensor, scale: Tensor) -> None:
        """What is added to the first tokens of the next forward: [n] rows, and [n] factors."""
        count = len(row_of)
        self.row_of[:count] = row_of
        self.row_of[count:].zero_()
        self.scale[:count] = scale

    def put_again(self, number_of: Tensor) -> None:
        """Which layer is run again for the first tokens of the next forward: [n], by its number among those that can
        be, from 1 on; 0 for none."""
        count = len(number_of)
        for number, chosen in enumerate(self.again.values(), start=1):
            chosen[:count] = number_of == number
            chosen[count:] = False


def decoder_layers(model: Module, count: int, attention: type[Module]) -> ModuleList:
    """The model's decoder layers: the one list of `count` modules with one attention each.

    Raises ValueError where there is no such list, or several.
    """
    found = [
        one
        for one in model.modules()
        if isinstance(one, ModuleList) and len(one) == count and all(_count(layer, attention) == 1 for layer in one)
    ]
    if len(found) != 1:
        raise ValueError(
            f"--hidden-layers: {type(model).__name__} has {len(found)} lists of {count} layers with one attention "
            "each, where models that Forkpoint steers have one; leave --hidden-layers out"
        )
    return found[0]


def attach(layers: ModuleList, numbers: Sequence[int], rows: int, size: int, buffers: Buffers) -> None:
    """Hook these layers, before the first forward, with tables of so many rows of `size` numbers: D, the width of the
    residual stream."""
    for number in numbers:
        table = torch.zeros(rows, size, dtype=buffers.scale.dtype, device=buffers.scale.device)
        buffers.tables[number] = table
        # buffers of the module, so that vLLM keeps them when it sleeps; not in checkpoints
        for name, value in ((_TABLE, table), (_ROW_OF, buffers.row_of), (_SCALE, buffers.scale)):
            layers[number].register_buffer(name, value, persistent=False)
        layers[number].register_forward_hook(_add)


def _add(module: Any, _args: tuple[Any, ...], output: Any) -> Any:
    """Add to the stream: a layer returns it, or a pair whose sum it is."""
    stream = output[1] if isinstance(output, tuple) and len(output) == 2 else output
    if not isinstance(stream, Tensor) or stream.dim() != 2:
        raise ValueError(
            f"--hidden-layers: {type(module).__name__} returns neither the residual stream nor a pair that sums to it; "
            "leave --hidden-layers out"
        )
    count = stream.shape[0]
    rows = getattr(module, _TABLE)[getattr(module, _ROW_OF)[:count]]
    stream = stream + getattr(module, _SCALE)[:count, None] * rows
    return (output[0], stream) if isinstance(output, tuple) else stream


def _count(layer: Module, kind: type[Module]) -> int:
    return sum(isinstance(one, kind) for one in layer.modules())
