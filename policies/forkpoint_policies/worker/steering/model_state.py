"""Before each forward of vLLM's V2 model runner: what the hooks read is written.

The runner asks the model's state for the inputs of a forward. It does so on the stream of the forward, after the last
step's logits processors and before a CUDA graph is replayed, so that what these decided counts in the next forward.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import Module
from vllm.v1.worker.gpu.model_states import resolve_model_state_cls
from vllm.v1.worker.gpu.spec_decode.rejection_sampler import RejectionSampler

from forkpoint_policies.worker.layer_states import LAYER_STATES

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
            LAYER_STATES.rows = input_batch.logits_indices
            return super().prepare_inputs(input_batch, req_states)

        def custom_sampler(self, sampler: Any) -> Any:
            own, speculative = super().custom_sampler(sampler), vllm_config.speculative_config
            if speculative is None:
                return own
            if own is not None:
                raise ValueError(
                    f"--hidden-layers cannot be had with --speculative-config for {base.__name__}, which has a sampler "
                    "of its own; leave one of the two out"
                )
            return sampler, Rejecting(sampler, speculative, self.device)

    return Placing


class Rejecting(RejectionSampler):
    """The sampler of a server that drafts: it takes no draft that was read otherwise than the policies decide.

    A decision from the distribution is known after the forward in which the draft behind it was read. vLLM rejects
    drafts below 0, as it does behind a grammar's end, and draws the token there from the model's own distribution.
    """

    def _verify(self, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        STEERING.drafts = args[-1].clone()
        arguments: list[Any] = [*args[:-1], STEERING.drafts]
        try:  # the logits processors run first, and decide
            return super()._verify(*arguments)
        finally:
            STEERING.drafts = None


def _place(batch: Any, states: Any) -> None:
    count = batch.num_reqs
    slots = batch.idx_mapping_np[:count]
    # dummy runs have requests that the runner does not know, in slots that others may have
    is_dummy = not count or batch.req_ids[0] not in states.req_id_to_index
    if is_dummy or not STEERING.changes(slots):
        STEERING.clear()
        return
    requests = Requests(slots, states.prompt_len.gpu[batch.idx_mapping[:count]], batch.num_draft_tokens_per_req)
    tokens = batch.num_tokens  # others are padding
    starts = batch.query_start_loc[: count + 1]
    STEERING.place(requests, starts, batch.positions[:tokens], batch.input_ids[:tokens])


class _Modules:
    """A model as vLLM inspects it to find its state: without the method that would ask for ours."""

    def __init__(self, model: Module) -> None:
        self.modules = model.modules
