"""Counts the bytes that a step reads and writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from forkpoint_policies.kernel.signals import in_numba

VIEWS = {
    "view", "_unsafe_view", "unsqueeze", "squeeze", "slice", "select", "expand", "permute", "transpose", "t",
    "unflatten",
    "alias", "detach", "as_strided", "split", "unbind", "_reshape_alias", "empty", "empty_like", "new_empty",
}  # fmt: skip
FILLS = {"new_zeros", "new_full", "zeros_like", "ones_like", "full_like"}  # take only the shape of their argument
LOOK_UPS = {"take", "index", "gather", "index_select"}  # read as much as they give back
SCATTERS = {"scatter_add_", "scatter_add", "scatter_", "scatter", "index_copy_", "index_put_", "index_add_"}
SWEEPS = {"measure": 1, "weight_at": 1, "total_variation": 4}
"""How often the compiled functions, which torch does not see into, read the logits: for the peak, and for each sum."""


class Traffic(TorchDispatchMode):
    """While entered, counts in `bytes` what each torch operation and each sweep reads (tensors) and writes (result)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._sweeps = ExitStack()

    def __enter__(self) -> Self:
        for name, passes in SWEEPS.items():
            self._sweeps.enter_context(patch.object(in_numba, name, self._counted(getattr(in_numba, name), passes)))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._sweeps.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        sizes = [_size(tensor) for tensor in _tensors((*args, *(kwargs or {}).values()))]
        made = sum(_size(tensor) for tensor in _tensors(result))
        if name in LOOK_UPS:
            self.bytes += sum(sizes[1:]) + 2 * made
        elif name in SCATTERS:  # as many elements are written as come, and of the rest nothing is touched
            self.bytes += sum(sizes[1:]) + sizes[-1]
        elif name in FILLS:
            self.bytes += made
        elif name not in VIEWS:
            self.bytes += sum(sizes) + made
        return result

    def _counted(self, sweep: Any, passes: int) -> Any:
        def counted(logits: Tensor, *more: Tensor) -> Any:
            self.bytes += passes * _size(logits)
            return sweep(logits, *more)

        return counted


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _size(tensor: Tensor) -> int:
    """What there is to read: of an expanded tensor only what it is expanded from."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
