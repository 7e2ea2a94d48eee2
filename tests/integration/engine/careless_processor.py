"""Policies on vLLM's V2 model runner without the rejection of drafts, for the requests that ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkpoint_policies.worker.steering.shared import STEERING
from forkpoint_policies.worker.vllm_v2 import PolicyProcessorV2

if TYPE_CHECKING:
    from torch import Tensor
    from vllm import SamplingParams
    from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsContext

KEY = "take_every_draft"
"""In a request's extra arguments."""


class CarelessProcessor(PolicyProcessorV2):
    """While such a request has arrived last, drafts are taken that were read otherwise than policies decide."""

    _is_careless = False

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self._is_careless = KEY in (sampling_params.extra_args or {})
        return super().add_request(req_idx, sampling_params)

    def apply(self, logits: Tensor, ctx: LogitsContext) -> Tensor:
        if self._is_careless:
            STEERING.drafts = None
        return super().apply(logits, ctx)
