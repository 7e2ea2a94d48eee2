"""Which step a device takes: the compiled one where there can be one, else the one in torch's operations."""

from __future__ import annotations

import logging
import os

import torch

from forkpoint_policies.kernel.native.build import CompilerError

from .compiled_slots import CompiledSlots
from .torch_slots import TorchSlots

logger = logging.getLogger(__name__)

KERNEL_VARIABLE = "FORKPOINT_KERNEL"
"""An environment variable: `torch` asks for the slow step where the compiled one could be used."""


def slots_of_step(count: int, vocabulary: int, device: torch.device, depth: int = 1) -> CompiledSlots | TorchSlots:
    """Empty slots. `depth` is the most rows that one request has in a step."""
    if device.type in ("cpu", "cuda") and os.environ.get(KERNEL_VARIABLE) != "torch":
        try:
            return CompiledSlots(count, vocabulary, device, depth)
        except CompilerError as error:
            logger.warning("forkpoint: steps are slower than they could be: %s", error)
    return TorchSlots(count, vocabulary, device, depth)
