"""The last layer's hidden states of a step: a hook on the module of the model that turns them into logits.

vLLM calls that module outside of compiled code and of CUDA graphs, with exactly the rows of the logits, so that the
hook changes no computation.
"""

from __future__ import annotations

import os
from typing import Any, Self

from torch import Tensor
from torch.nn import Module

from .artefacts import ARTEFACTS
from .identity import difference
from .kept_states import STATES
from .meeting import MEETING, compare_with_server

EXTENSION = f"{__name__}.StateReading"
"""For vLLM's `--worker-extension-cls`."""
NAME = "logits_processor"
"""Of that module, in vLLM's models."""


class LastLayer:
    """The states of the step that runs, [rows, D], after the final norm."""

    def __init__(self) -> None:
        self._states: Tensor | None = None
        self._taken = 0

    def put(self, states: Tensor) -> None:
        self._states, self._taken = states, 0

    def take(self, rows: int) -> Tensor | None:
        """The states of the next rows of the step: vLLM may hand out its logits in several parts. None if unknown."""
        begin = self._taken
        self._taken += rows
        if self._states is None or self._taken > len(self._states):
            return None
        return self._states[begin : self._taken]


LAST_LAYER = LastLayer()
"""Of the model that this process runs."""


class StateReading:
    """A mixin of vLLM's worker, whose methods answer `collective_rpc`."""

    def __new__(cls, *_args: Any, **options: Any) -> Self:
        """Compare a worker under Ray with the server before it is made, and so before it loads the model."""
        if address := os.environ.get(MEETING):
            parallel = options["vllm_config"].parallel_config
            compare_with_server(address, int(options["rank"]) + parallel.data_parallel_rank * parallel.world_size)
        return super().__new__(cls)

    def forkpoint_read_states(self: Any) -> str:
        """Hook the served model; empty, or why its states cannot be read. Each of several API servers asks for it."""
        found = [module for name, module in self.get_model().named_modules() if name.rpartition(".")[2] == NAME]
        if len(found) != 1:
            return f"the served model has {len(found)} modules that make logits, where vLLM's models have one"
        if _keep not in found[0]._forward_pre_hooks.values():
            found[0].register_forward_pre_hook(_keep, with_kwargs=True)
        return ""

    def forkpoint_put_artefact(self: Any, raw: bytes) -> str:
        """Keep a vector or readout for the policies that name it; empty, or what is wrong with it."""
        return ARTEFACTS.put(raw)

    def forkpoint_take_states(self: Any, handle: int) -> bytes:
        """The hidden states that a request has kept, as a safetensors file; they are kept no longer."""
        return STATES.take(handle)

    def forkpoint_check(self: Any, version: str, channel: str) -> None:
        """Raise RuntimeError if this worker's Forkpoint is not the server's.

        An error, because vLLM returns the answers of the first data-parallel rank only, and the errors of all.
        """
        problem = difference(version, channel)
        if problem:
            raise RuntimeError(problem)


def _keep(_module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    LAST_LAYER.put(kwargs["hidden_states"] if "hidden_states" in kwargs else args[1])
