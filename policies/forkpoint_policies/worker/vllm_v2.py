"""The adapter to vLLM's V2 model runner: state by request slot, and one row per draft token."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_rank, model_parallel_is_initialized
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext, LogitsProcessor, LogitsProcRequestState

from forkpoint_policies.kernel.step_types import Batch

from .amx import allow_amx
from .last_layer import LAST_LAYER
from .orphan import end_with_server
from .payload import PolicyPayload
from .policy_slots import PolicySlots
from .sender import Sender


class PolicyProcessorV2(LogitsProcessor):
    """Applies the policy of each request that carries a PolicyPayload; rows without one cost nothing."""

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        end_with_server()
        allow_amx(req_states.device)
        speculative = vllm_config.speculative_config
        self._depth = 1 + (speculative.num_speculative_tokens or 0 if speculative is not None else 0)
        self._states = req_states
        self._slots = PolicySlots(req_states.max_num_reqs, req_states.vocab_size, req_states.device, self._depth)
        self._arrived: dict[int, tuple[PolicyPayload, float]] = {}  # slot -> payload and temperature
        self._sender = Sender(apply_top_k_top_p, vllm_config.parallel_config.pipeline_parallel_size)
        # every rank makes the same decisions; one reports them
        self._reports = not model_parallel_is_initialized() or get_tensor_model_parallel_rank() == 0

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self._slots.remove(req_idx)
        self._arrived.pop(req_idx, None)
        payload = PolicyPayload.of(sampling_params.extra_args)
        if payload is None:
            return False
        self._arrived[req_idx] = payload, sampling_params.temperature
        return True

    def apply_staged_writes(self) -> None:
        for slot, (payload, temperature) in self._arrived.items():
            self._slots.add(slot, payload, temperature, self._generated(slot))
        self._arrived.clear()

    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor:
        states = LAST_LAYER.take(len(logits))
        if not self._slots.has_policy(ctx.idx_mapping_np):
            return logits
        started = time.perf_counter()
        batch = Batch(
            ctx.expanded_idx_mapping, ctx.pos, ctx.input_ids, self._states.prompt_len.gpu,
            known_slots=self._known_slots(ctx, len(logits)),
        )  # fmt: skip
        record = self._slots.step(batch, logits, states)
        if self._reports:
            self._sender.report(record, self._slots.destinations(batch), time.perf_counter() - started, logits)
        return logits

    def _generated(self, slot: int) -> Sequence[int]:
        """What a request that is resumed had generated; the runner computes it again like a prompt."""
        begin, end = int(self._states.prompt_len.np[slot]), int(self._states.prefill_len.np[slot])
        return self._states.all_token_ids.gpu[slot, begin:end].tolist() if end > begin else ()

    def _known_slots(self, ctx: LogitsContext, total_rows: int) -> NDArray[np.int32] | None:
        """The slot of each row: one for each request, and one more per draft token. The runner has this on the device
        only; here it is derived. None where some requests have fewer drafts than others."""
        slots = ctx.idx_mapping_np.astype(np.int32)
        if total_rows == len(slots):
            return slots
        decoding = ctx.seq_lens_upper_bound_np[: len(slots)] > self._states.prefill_len.np[slots]
        most = np.where(decoding, self._depth, 1)
        if most.sum() == total_rows:  # then each has as many as it can have
            return slots.repeat(most)
        return None
