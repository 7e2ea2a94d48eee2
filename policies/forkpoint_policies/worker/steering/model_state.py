"""Before each forward of vLLM's V2 model runner: what the hooks read is written.

The runner asks the model's state for the inputs of a forward. It does so on the stream of the forward, after the last
step's logits processors and before a CUDA graph is replayed, so that what these decided counts in the next forward.
"""

from __future__ import annotations

from typing import Any

from torch.nn import Module
from vllm.v1.worker.gpu.model_states import resolve_model_state_cls

from .shared import STEERING, Requests


def placing_state_of(model: Any, base: Any, vllm_config: Any) -> Any:
    """The class of a hooked model's state: that which vLLM has for `base`, the model's class without hooks."""
    resolved: Any
    if hasattr(base, "get_model_state_cls"):
        resolved = base.get_model_state_cls(model)
    else:
        without_own: Any = _Modules(model)
        resolved = resolve_model_state_cls(vllm_config, without_own)

    class Placing(resolved):  # type: ignore[misc]
        def prepare_inputs(self, input_batch: Any, req_states: Any) -> Any:
            _place(input_batch, req_states)
            return super().prepare_inputs(input_batch, req_states)

    return Placing


def _place(batch: Any, states: Any) -> None:
    count = batch.num_reqs
    slots = batch.idx_mapping_np[:count]
    # dummy runs have requests that the runner does not know, in slots that others may have
    is_dummy = not count or batch.req_ids[0] not in states.req_id_to_index
    if is_dummy or not STEERING.changes(slots):
        STEERING.clear()
        return
    requests = Requests(slots, states.prompt_len.gpu[batch.idx_mapping[:count]])
    tokens = batch.num_tokens  # others are padding
    starts = batch.query_start_loc[: count + 1]
    STEERING.place(requests, starts, batch.positions[:tokens], batch.input_ids[:tokens])


class _Modules:
    """A model as vLLM inspects it to find its state: without the method that would ask for ours."""

    def __init__(self, model: Module) -> None:
        self.modules = model.modules
