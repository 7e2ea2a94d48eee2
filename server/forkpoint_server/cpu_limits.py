"""What vLLM's CPU build cannot do, or does slowly: refused, avoided or warned of before the engine starts."""

from __future__ import annotations

import logging
from argparse import Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .vllm_seam import VllmConfig

logger = logging.getLogger(__name__)

ENGINE_ARGUMENTS = "vllm.engine.arg_utils"
"""The logger with which vLLM says what it thinks of its arguments."""


def check_stages(config: VllmConfig) -> None:
    """Raise ValueError for a pipeline in which vLLM's CPU build ends at the first request.

    It makes room for the tensors of the stage before only when it compiles the model.
    """
    on_cpu, stages = config.device_config.device_type == "cpu", config.parallel_config.pipeline_parallel_size
    if on_cpu and stages > 1 and config.model_config.enforce_eager:
        raise ValueError(
            "--pipeline-parallel-size: on a CPU, vLLM runs a pipeline only if it compiles the model; leave "
            "--enforce-eager out, or pass --no-enforce-eager for the embedded model"
        )


def keep_prompts_whole(args: Namespace, config: VllmConfig) -> None:
    """Make vLLM compute each prompt in one step on a CPU, unless the arguments rule it out; then warn.

    vLLM's CPU build crashes at a request with a seed whose prompt it computes in pieces: it takes back the number that
    was sampled after a piece by moving the generator's offset, which a generator on a CPU does not have. Without
    chunked prefill a prompt waits for a batch with room for all of it, also when it resumes after preemption. A batch
    must then hold as many tokens as the context, which is vLLM's default without chunked prefill.
    """
    if config.device_config.device_type != "cpu" or config.model_config.runner_type != "generate":
        return
    scheduler, context = config.scheduler_config, config.model_config.max_model_len
    budget = args.max_num_batched_tokens
    pieces = None
    if args.enable_chunked_prefill:
        pieces = "--enable-chunked-prefill"
    elif budget is not None and budget < context and scheduler.enable_chunked_prefill:
        pieces = f"--max-num-batched-tokens {budget}, smaller than the context of {context} tokens,"
    elif 0 < scheduler.long_prefill_token_threshold < context:
        pieces = f"--long-prefill-token-threshold {scheduler.long_prefill_token_threshold}"
    elif args.enable_prefix_caching and config.cache_config.mamba_cache_mode == "align":
        pieces = "--enable-prefix-caching, for a model with recurrent layers,"
    if pieces is not None:
        logger.warning(
            "%s makes vLLM compute prompts in pieces; on a CPU it crashes when a request with a seed is among them",
            pieces,
        )
        return
    if config.model_config.is_multimodal_model:
        logger.warning(
            "vLLM may compute a prompt with several images in pieces; on a CPU it crashes if the request has a seed"
        )
    if config.cache_config.mamba_cache_mode == "align":
        args.enable_prefix_caching = False  # it cuts prompts at blocks
    if scheduler.enable_chunked_prefill:
        args.enable_chunked_prefill = False
        logging.getLogger(ENGINE_ARGUMENTS).addFilter(_is_not_of_whole_prompts)


def _is_not_of_whole_prompts(record: logging.LogRecord) -> bool:
    """Whether a log record is not vLLM's warning of prompts computed whole: we chose that, for the reason above."""
    return not str(record.msg).startswith("This model does not officially support disabling chunked prefill")


def warn_of_slow_arithmetic(config: VllmConfig) -> None:
    """Warn if a CPU lacks instructions for bfloat16: without them vLLM leaves oneDNN's kernels for slow ones.

    Measured without AVX-512, beside other work: Qwen2.5-0.5B with 32 requests at once generates 6 tokens/s in bfloat16,
    39 in float32.
    """
    import torch

    is_bfloat16 = config.device_config.device_type == "cpu" and config.model_config.dtype is torch.bfloat16
    if is_bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning("this CPU has no instructions for bfloat16; --dtype float32 is several times faster")
