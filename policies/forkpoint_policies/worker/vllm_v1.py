"""The adapter to vLLM's V1 model runner: state by persistent-batch index, moved by `update_state`."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_rank, model_parallel_is_initialized
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

from forkpoint_policies.kernel.native.columns import NONE
from forkpoint_policies.kernel.step_types import Batch

from .amx import allow_amx
from .last_layer import LAST_LAYER
from .orphan import end_with_server
from .payload import PolicyPayload
from .policy_slots import PolicySlots
from .sender import Sender
from .steering.shared import STEERING, Requests


class PolicyProcessorV1(LogitsProcessor):
    """Applies the policy of each request that carries a PolicyPayload; rows without one cost nothing."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        end_with_server()
        allow_amx(device)
        count = vllm_config.scheduler_config.max_num_seqs
        self._slots = PolicySlots(count, vllm_config.model_config.get_vocab_size(), device)
        self._device = device
        self._free = list(range(count))
        self._at: dict[int, tuple[int, list[int]]] = {}  # batch index -> slot and the request's tokens so far
        self._prompt_len_of: dict[int, int] = {}  # by slot
        self._prompt_lens = torch.zeros(count, dtype=torch.int32, device=device)  # tokens are counted without prompts
        self._sender = Sender(apply_top_k_top_p, vllm_config.parallel_config.pipeline_parallel_size)
        # every rank makes the same decisions; one reports them
        self._reports = not model_parallel_is_initialized() or get_tensor_model_parallel_rank() == 0

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for index in batch_update.removed:
            self._remove(index)
        for index, params, prompt, generated in batch_update.added:
            self._remove(index)
            self._add(index, params, prompt, generated)
        for source, target, direction in batch_update.moved:
            moving, staying = self._at.pop(source, None), self._at.pop(target, None)
            if moving is not None:
                self._at[target] = moving
            if staying is not None and direction == MoveDirectionality.SWAP:
                self._at[source] = staying
            elif staying is not None:
                self._release(staying[0])
        STEERING.requests = self._requests()

    def apply(self, logits: Tensor) -> Tensor:
        if not self._at:
            return logits
        started = time.perf_counter()
        # V1 hands out tokens as Python lists only, so the last of each is fetched here
        slots, positions, last_tokens = rows = np.full((3, len(logits)), NONE)
        for index, (slot, tokens) in self._at.items():
            slots[index], positions[index] = slot, len(tokens) - 1
            last_tokens[index] = tokens[-1] if tokens else 0
        on_device = self._uploaded(rows)
        batch = Batch(
            on_device[0].int(), on_device[1], on_device[2], self._prompt_lens, known_slots=slots.astype(np.int32)
        )
        record = self._slots.step(batch, logits, LAST_LAYER.take(len(logits)))
        if self._reports:
            self._sender.report(record, self._slots.destinations(batch), time.perf_counter() - started, logits)
        return logits

    def _uploaded(self, rows: NDArray[np.int64]) -> Tensor:
        """Numbers on the device, without waiting for it."""
        found = torch.from_numpy(rows)
        return found.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else found

    def _add(self, index: int, params: SamplingParams, prompt: list[int] | None, generated: list[int]) -> None:
        payload = PolicyPayload.of(params.extra_args)
        if payload is not None:
            slot = self._free.pop()
            self._slots.add(slot, payload, params.temperature, generated)
            self._at[index] = slot, generated
            self._prompt_len_of[slot] = len(prompt or ())

    def _remove(self, index: int) -> None:
        if index in self._at:
            self._release(self._at.pop(index)[0])

    def _requests(self) -> Requests | None:
        """The batch as the hooks in the model need it; None where no state of its requests is changed."""
        slots = np.full(max(self._at, default=0) + 1, NONE, np.int32)
        for index, (slot, _) in self._at.items():
            slots[index] = slot
        if not STEERING.changes(slots):
            return None
        lengths = [self._prompt_len_of.get(slot, 0) for slot in slots.tolist()]
        return Requests(slots, torch.tensor(lengths).to(self._device))

    def _release(self, slot: int) -> None:
        self._slots.remove(slot)
        self._free.append(slot)
