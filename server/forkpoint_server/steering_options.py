"""`--hidden-layers` and `--recycle-layers`: whether they can be had, and what vLLM must be started with."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from forkpoint_policies.worker.steering.options import extension_of, with_layers

if TYPE_CHECKING:
    from .vllm_seam import VllmConfig

OPTION, RECYCLE_OPTION = "--hidden-layers", "--recycle-layers"
MAX_LAYERS = 64
STOCK_TORCH_COMPILE = 1
"""Of vLLM's CompilationMode."""


def layer_numbers(text: str) -> tuple[int, ...]:
    """Layers as in 12,20, in order. Raises ArgumentTypeError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts) or len({*parts}) != len(parts):
        raise ArgumentTypeError(
            f"must be numbers of layers, the first of the model is 0, separated by commas, as in 12,20; not {text!r}"
        )
    if len(parts) > MAX_LAYERS:
        raise ArgumentTypeError(f"names {len(parts)} layers; {MAX_LAYERS} at most")
    return tuple(sorted(int(part) for part in parts))


def hook_layers(args: Namespace, config: VllmConfig) -> None:
    """Make vLLM load the model with hooks at the layers of the arguments. Raises ValueError where it cannot."""
    wanted = {OPTION: args.hidden_layers, RECYCLE_OPTION: args.recycle_layers}
    for option, layers in wanted.items():
        check_layers(layers, config.model_config.get_total_num_hidden_layers(), option)
    first = next(option for option, layers in wanted.items() if layers)
    if args.worker_extension_cls:
        raise ValueError(
            f"{first} needs the place of --worker-extension-cls {args.worker_extension_cls}; leave one of the two out"
        )
    problem = next((text for text, is_so in _obstacles(config) if is_so), None)
    if problem is not None:
        raise ValueError(f"{first} cannot be had {problem}")
    args.worker_extension_cls = extension_of(config.model_config.architecture)
    args.additional_config = with_layers(args.additional_config, args.hidden_layers, args.recycle_layers)


def check_layers(layers: Sequence[int], count: int, option: str = OPTION) -> None:
    """Raise ValueError for a layer that a model of so many does not have."""
    if layers and layers[-1] >= count:
        raise ValueError(f"{option}: the model has no layer {layers[-1]}; its {count} layers are 0 to {count - 1}")


def _obstacles(config: VllmConfig) -> Iterable[tuple[str, bool]]:
    """What the hooks do not work with, and whether this server is started so."""
    model, parallel, speculative = config.model_config, config.parallel_config, config.speculative_config
    yield (
        "with enable_adaptive_verification in --speculative-config: how many drafts a step reads is not known in time",
        speculative is not None and speculative.enable_adaptive_verification,
    )
    yield "with --pipeline-parallel-size above 1", parallel.pipeline_parallel_size > 1
    yield "with --prefill-context-parallel-size above 1", parallel.prefill_context_parallel_size > 1
    yield "with micro-batches (--enable-dbo, --ubatch-size)", parallel.use_ubatching
    yield "on several hosts", parallel.nnodes > 1 or parallel.data_parallel_size_local != parallel.data_parallel_size
    yield "with the compilation mode STOCK_TORCH_COMPILE", config.compilation_config.mode == STOCK_TORCH_COMPILE
    yield "with --enable-prompt-embeds", model.enable_prompt_embeds
    yield "with --kv-transfer-config", config.kv_transfer_config is not None
    yield "for a model with an encoder", model.is_encoder_decoder
    one_step = parallel.data_parallel_size > 1 and model.is_moe  # its ranks run each forward together
    yield "for a mixture of experts with --data-parallel-size above 1", one_step
    yield "for a multimodal model", model.is_multimodal_model or model.uses_mrope
    yield "for a model of vLLM's Transformers backend", model.using_transformers_backend()
    yield "on a GPU so far", config.device_config.device_type != "cpu"
