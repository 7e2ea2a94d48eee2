"""The served architecture with hooks: a subclass of vLLM's class, which vLLM loads in its place.

Where vLLM would load `Qwen3ForCausalLM`, it loads what this module calls by that name and by vLLM's version. All that
the subclass adds is in its constructor, and on the V1 model runner before each forward; on V2 that is in `model_state`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from vllm import __version__ as vllm_version
from vllm.forward_context import get_forward_context, override_forward_context
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models import ModelRegistry

from forkpoint_policies.worker.layer_states import LAYER_STATES

from .again import Again, forward_of
from .hooks import Buffers, attach, decoder_layers
from .model_state import placing_state_of
from .options import hidden_layers, recycle_layers
from .recycling import attach_second_pass
from .shared import STEERING, TABLE_ROWS

_OF_VLLM = "_of_vllm_"
"""Between an architecture and vLLM's version: vLLM stores what it finds out about a class by its name and our file."""
_bases: dict[str, Any] = {}
"""What vLLM had registered for each architecture."""


def register(architecture: str) -> None:
    """Make vLLM load this architecture with hooks, in this process."""
    if architecture not in _bases:
        _bases[architecture] = ModelRegistry.models[architecture]
        ModelRegistry.register_model(architecture, f"{__name__}:{_registered_name(architecture)}")


def _registered_name(architecture: str) -> str:
    return architecture + _OF_VLLM + "".join(letter if letter.isalnum() else "_" for letter in vllm_version)


def __getattr__(name: str) -> Any:
    architecture, of_vllm, _ = name.partition(_OF_VLLM)
    if not of_vllm:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # a process that only inspects the class has not registered it
    registered = _bases.get(architecture) or ModelRegistry.models[architecture]
    found = globals()[name] = _steered(registered.load_model_cls())
    return found


def _steered(base: Any) -> Any:
    """The subclass of one of vLLM's models."""

    class Steered(base):  # type: ignore[misc]
        def __init__(self, *, vllm_config: Any, prefix: str = "", **options: Any) -> None:
            super().__init__(vllm_config=vllm_config, prefix=prefix, **options)
            self._forkpoint_config = vllm_config
            own = None if _drafts(vllm_config) else vllm_config.additional_config
            layers, recycled = hidden_layers(own), recycle_layers(own)
            self._forkpoint_is_hooked = bool(layers or recycled)
            self._forkpoint_places = self._forkpoint_is_hooked and not vllm_config.use_v2_model_runner
            if self._forkpoint_is_hooked:
                _hook(self, vllm_config, layers, recycled)

        @functools.wraps(base.forward)
        def forward(self, input_ids: Any, positions: Any, *args: Any, **options: Any) -> Any:
            if self._forkpoint_places:
                _place(input_ids, positions)
            found = super().forward(input_ids, positions, *args, **options)
            if self._forkpoint_is_hooked and LAYER_STATES.is_wanted:
                _read(lambda: base.forward(self, input_ids, positions, *args, **options))
            if STEERING.again.is_expected:
                _keep(lambda: base.forward(self, input_ids, positions, *args, **options))
            return found

        @functools.wraps(base.compute_logits)
        def compute_logits(self, hidden_states: Tensor, *args: Any, **options: Any) -> Any:
            logits = super().compute_logits(hidden_states, *args, **options)
            if not STEERING.again.is_expected:
                return logits
            states = STEERING.again.states(hidden_states, logits)
            return logits if states is None else super().compute_logits(states, *args, **options)

        def get_model_state_cls(self) -> Any:
            """Of the V2 model runner: it asks the state that it makes before each forward."""
            return placing_state_of(self, base, self._forkpoint_config)

    Steered.__name__, Steered.__qualname__ = base.__name__, base.__qualname__
    return Steered


def _drafts(vllm_config: Any) -> bool:
    """Whether this is the configuration of a draft model: it has no hooks. Where the model itself drafts, as from
    n-grams, vLLM has one configuration for both."""
    speculative = vllm_config.speculative_config
    return speculative is not None and vllm_config.model_config is not speculative.target_model_config


def _hook(model: Module, vllm_config: Any, numbers: tuple[int, ...], recycled: tuple[int, ...]) -> None:
    config = vllm_config.model_config
    device = next(model.parameters()).device
    tokens = vllm_config.scheduler_config.max_num_batched_tokens
    buffers = Buffers(
        torch.zeros(tokens, dtype=torch.int64, device=device),
        torch.zeros(tokens, dtype=config.dtype, device=device),
        config.max_model_len,
    )
    layers = decoder_layers(model, config.get_total_num_hidden_layers(), Attention)
    for number in recycled:  # before the vectors: they are added to what the second pass gives
        buffers.again[number] = torch.zeros(tokens, dtype=torch.bool, device=device)
        attach_second_pass(layers[number], Attention, buffers.again[number])
    attach(layers, numbers, TABLE_ROWS, config.get_hidden_size(), buffers)
    STEERING.attach(buffers)
    LAYER_STATES.attach({number: layers[number] for number in numbers})
    STEERING.again = Again({number: layers[number] for number in recycled}, tokens)


def _place(token_ids: Tensor, positions: Tensor) -> None:
    """Before a forward of the V1 model runner; in dummy runs nothing is added."""
    metadata: Any = get_forward_context().attn_metadata
    if not metadata or STEERING.requests is None:
        STEERING.clear()
    else:
        starts = next(iter(metadata.values())).query_start_loc
        STEERING.place(STEERING.requests, starts, positions, token_ids)


def _read(run: Callable[[], object]) -> None:
    """After a forward: read the layers' states at the rows of the logits, those of the last token of each request, and
    of its drafts. Runs the model again, with the keys and values that the first run has written; not in dummy runs."""
    context = get_forward_context()
    metadata: Any = context.attn_metadata
    if metadata:
        rows, LAYER_STATES.rows = LAYER_STATES.rows, None
        if rows is None:
            rows = next(iter(metadata.values())).query_start_loc[1:] - 1
        with override_forward_context(replace(context, skip_compiled=True, slot_mapping={}, moe_layer_index=0)):
            LAYER_STATES.read(run, rows)


def _keep(run: Callable[[], Tensor]) -> None:
    """After a forward that may have to be run again, once its logits are known."""

    def in_context(context: Any) -> Tensor:
        with override_forward_context(context):
            return run()

    STEERING.again.keep(forward_of(get_forward_context(), in_context))
