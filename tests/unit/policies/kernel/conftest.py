"""Every test of the kernel runs on the compiled step and on the one in torch's operations."""

from __future__ import annotations

import pytest

from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    monkeypatch.setenv(KERNEL_VARIABLE, name)
    return name
