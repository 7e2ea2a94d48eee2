"""A logits processor for vLLM's V2 model runner that changes nothing and writes down what vLLM gives it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext, LogitsProcessor, LogitsProcRequestState

if TYPE_CHECKING:
    import torch
    from vllm import SamplingParams
    from vllm.config import VllmConfig

FILE = "FORKPOINT_TEST_ROWS"
"""The environment variable with the file that gets a line of JSON for each call."""


class RowRecorder(LogitsProcessor):
    def __init__(self, vllm_config: VllmConfig, req_states: LogitsProcRequestState) -> None:
        self._states = req_states
        self._file = Path(os.environ[FILE])
        self._write("made")

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        self._write(
            "add",
            slot=req_idx,
            temperature=sampling_params.temperature,
            prompt_len=int(self._states.prompt_len.np[req_idx]),
            prefill_len=int(self._states.prefill_len.np[req_idx]),
        )
        return True

    def apply_staged_writes(self) -> None:
        self._write("staged")

    def apply(self, logits: torch.Tensor, ctx: LogitsContext) -> torch.Tensor:
        states = self._states
        slots = ctx.idx_mapping.tolist()
        lengths = states.total_len.gpu[slots].tolist()
        self._write(
            "apply",
            logits=list(logits.shape),
            best=logits.argmax(dim=-1).tolist(),
            expanded_idx_mapping=ctx.expanded_idx_mapping.tolist(),
            idx_mapping=slots,
            idx_mapping_np=ctx.idx_mapping_np.tolist(),
            expanded_local_pos=ctx.expanded_local_pos.tolist(),
            input_ids=ctx.input_ids.tolist(),
            pos=ctx.pos.tolist(),
            bound=ctx.seq_lens_upper_bound_np.tolist(),
            total_len=lengths,
            prompt_len=states.prompt_len.gpu[slots].tolist(),
            prefill_len=states.prefill_len.gpu[slots].tolist(),
            tail=[
                states.all_token_ids.gpu[slot, : length + 2][-6:].tolist()
                for slot, length in zip(slots, lengths, strict=True)
            ],
            types=[
                str(value.dtype) for value in (ctx.expanded_idx_mapping, ctx.expanded_local_pos, ctx.input_ids, ctx.pos)
            ],
        )
        return logits

    def _write(self, event: str, **values: Any) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps({"event": event, **values}) + "\n")
