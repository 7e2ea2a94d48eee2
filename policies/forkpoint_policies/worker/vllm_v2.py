"""The adapter to vLLM's V2 model runner: state by request slot, and one row per draft token."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_rank, model_parallel_is_initialized
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext, LogitsProcessor, LogitsProcRequestState

from forkpoint_policies.kernel.batch import Layout
from forkpoint_policies.kernel.signals import warm_up
from forkpoint_policies.kernel.step import Rows, step

from .orphan import end_with_server
from .payload import PolicyPayload
from .request_slots import RequestSlots
from .sender import Destinations, Sender


class PolicyProcessorV2(LogitsProcessor):
    """Applies the policy of each request that carries a PolicyPayload; rows without one cost nothing."""

    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        end_with_server()
        speculative = vllm_config.speculative_config
        self._depth = 1 + (speculative.num_speculative_tokens or 0 if speculative is not None else 0)
        self._states = req_states
        self._slots = RequestSlots(req_states.max_num_reqs, req_states.vocab_size, req_states.device, self._depth)
        self._arrived: dict[int, tuple[PolicyPayload, float]] = {}  # slot -> payload and temperature
        self._batch: tuple[tuple[bytes, tuple[int, ...]], Layout, Destinations] | None = None
        self._sender = Sender(apply_top_k_top_p)
        # every rank makes the same decisions; one reports them
        self._reports = not model_parallel_is_initialized() or get_tensor_model_parallel_rank() == 0
        warm_up(req_states.device.type)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self._slots.remove(req_idx)
        self._arrived.pop(req_idx, None)
        self._batch = None
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
        if not any(self._slots.get(int(slot)) for slot in ctx.idx_mapping_np):
            return logits
        started = time.perf_counter()
        layout, destinations = self._laid_out(ctx, len(logits))
        position, last = ctx.pos, ctx.input_ids
        if layout.rows is not None:
            position, last = position.index_select(0, layout.rows), last.index_select(0, layout.rows)
        # negative while a prompt is computed in pieces; the kernel takes that for the first position
        generated = position.long() + 1 - self._states.prompt_len.gpu[layout.slot].long()
        record = step(self._slots.slots, Rows(layout, generated, last.long()), logits)
        if self._reports and destinations.rows_of:
            self._sender.report(record, destinations, time.perf_counter() - started, logits)
        return logits

    def _generated(self, slot: int) -> Sequence[int]:
        """What a request that is resumed had generated; the runner computes it again like a prompt."""
        begin, end = int(self._states.prompt_len.np[slot]), int(self._states.prefill_len.np[slot])
        return self._states.all_token_ids.gpu[slot, begin:end].tolist() if end > begin else ()

    def _laid_out(self, ctx: LogitsContext, total_rows: int) -> tuple[Layout, Destinations]:
        counts = self._rows_per_request(ctx, total_rows)
        key = ctx.idx_mapping_np.tobytes(), counts
        if self._batch is None or self._batch[0] != key:
            rows, row = [], 0
            for slot, count in zip(ctx.idx_mapping_np.tolist(), counts, strict=True):
                request = self._slots.get(slot)
                if request is not None:
                    rows += [request.at(row + offset, offset) for offset in range(count)]
                row += count
            self._batch = (key, *self._slots.layout(rows, total_rows))
        return self._batch[1], self._batch[2]

    def _rows_per_request(self, ctx: LogitsContext, total_rows: int) -> tuple[int, ...]:
        """One row each, and one more per draft token. The runner has this on the device only; here it is derived."""
        slots = ctx.idx_mapping_np
        if total_rows == len(slots):
            return (1,) * total_rows
        decoding = ctx.seq_lens_upper_bound_np[: len(slots)] > self._states.prefill_len.np[slots]
        most = np.where(decoding, self._depth, 1)
        if most.sum() == total_rows:  # then each has as many as it can have
            return tuple(most.tolist())
        place = {
            slot: number for number, slot in enumerate(slots.tolist())
        }  # some have fewer drafts: read them from the device, which waits for it
        found = torch.bincount(
            torch.tensor([place[slot] for slot in ctx.expanded_idx_mapping.tolist()]), minlength=len(slots)
        )
        return tuple(found.tolist())
