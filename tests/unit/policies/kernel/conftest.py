"""Every test of the kernel runs on the compiled step, on the same as thread blocks run it, and on the one in torch."""

from __future__ import annotations

import pytest

from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from tests.unit.policies.kernel.native.block_kernels import slots_of_blocks


@pytest.fixture(params=["compiled", "block", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv(KERNEL_VARIABLE, "torch" if name == "torch" else "compiled")
    if name == "block":
        monkeypatch.setattr("forkpoint_policies.worker.policy_slots.slots_of_step", slots_of_blocks)
    return name
