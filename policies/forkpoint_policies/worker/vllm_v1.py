"""The adapter to vLLM's V1 model runner: state by persistent-batch index, moved by `update_state`."""

from __future__ import annotations

import time

import torch
from torch import Tensor
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_rank, model_parallel_is_initialized
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

from forkpoint_policies.kernel.batch import Layout, SlotRow
from forkpoint_policies.kernel.signals import warm_up
from forkpoint_policies.kernel.step import Rows, step

from .orphan import end_with_server
from .payload import PolicyPayload
from .request_slots import RequestSlots
from .sender import Destinations, Sender


class PolicyProcessorV1(LogitsProcessor):
    """Applies the policy of each request that carries a PolicyPayload; rows without one cost nothing."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        end_with_server()
        slots = vllm_config.scheduler_config.max_num_seqs
        self._slots = RequestSlots(slots, vllm_config.model_config.get_vocab_size(), device)
        self._device = device
        self._free = list(range(slots))
        self._at: dict[int, tuple[SlotRow, list[int]]] = {}  # batch index -> request and its tokens so far
        self._batch: tuple[Layout, Destinations, list[list[int]]] | None = None
        self._sender = Sender(apply_top_k_top_p)
        warm_up(device.type)
        # every rank makes the same decisions; one reports them
        self._reports = not model_parallel_is_initialized() or get_tensor_model_parallel_rank() == 0

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        self._batch = None
        for index in batch_update.removed:
            self._remove(index)
        for index, params, _, generated in batch_update.added:
            self._remove(index)
            self._add(index, params, generated)
        for source, target, direction in batch_update.moved:
            moving, staying = self._at.pop(source, None), self._at.pop(target, None)
            if moving is not None:
                self._at[target] = moving
            if staying is not None and direction == MoveDirectionality.SWAP:
                self._at[source] = staying
            elif staying is not None:
                self._release(staying[0])

    def apply(self, logits: Tensor) -> Tensor:
        if not self._at:
            return logits
        started = time.perf_counter()
        if self._batch is None:
            indices = sorted(self._at)
            layout, destinations = self._slots.layout([self._at[index][0].at(index) for index in indices], len(logits))
            self._batch = layout, destinations, [self._at[index][1] for index in indices]
        layout, destinations, generated = self._batch
        # V1 hands out tokens as Python lists only, so the last of each is fetched here; the kernel takes it from there
        last = torch.tensor([tokens[-1] if tokens else 0 for tokens in generated], device=self._device)
        position = torch.tensor([len(tokens) for tokens in generated], device=self._device)
        record = step(self._slots.slots, Rows(layout, position, last), logits)
        if self._reports and destinations.rows_of:
            self._sender.report(record, destinations, time.perf_counter() - started, logits)
        return logits

    def _add(self, index: int, params: SamplingParams, generated: list[int]) -> None:
        payload = PolicyPayload.of(params.extra_args)
        if payload is not None:
            self._at[index] = self._slots.add(self._free.pop(), payload, params.temperature, generated), generated

    def _remove(self, index: int) -> None:
        if index in self._at:
            self._release(self._at.pop(index)[0])

    def _release(self, request: SlotRow) -> None:
        self._slots.remove(request.slot)
        self._free.append(request.slot)
