"""Every test of the kernel runs on the compiled step, also as thread blocks run it, and on the one in torch's operations."""

from __future__ import annotations

import pytest
import torch

from forkpoint_policies.worker.compiled_slots import CompiledSlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from tests.unit.policies.kernel.native.block_kernels import BlockKernels


@pytest.fixture(params=["compiled", "block", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv(KERNEL_VARIABLE, "torch" if name == "torch" else "compiled")
    if name == "block":
        monkeypatch.setattr("forkpoint_policies.worker.policy_slots.slots_of_step", slots_of_blocks)
    return name


def slots_of_blocks(count: int, vocabulary: int, device: torch.device, depth: int = 1) -> CompiledSlots:
    """As slots_of_step, as on a GPU."""
    return CompiledSlots(count, vocabulary, device, depth, BlockKernels())
