"""What a step costs in operations: few, whatever the mix of policies and the number of rows."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from benchmarks.kernel import served_model
from benchmarks.step import MIXES, operations, using
from forkpoint_policies.compile.served_model import ServedModel

MAX_OPERATIONS, MAX_OPERATIONS_TRUNCATING = 8, 12


@pytest.fixture(scope="module")
def target() -> ServedModel:
    return served_model()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("mix", MIXES)
def test_a_step_is_few_operations_at_any_number_of_rows(mix: str, target: ServedModel) -> None:
    with using("compiled"):
        counts = {operations(MIXES[mix], target, rows) for rows in (1, 8, 64)}
    assert len(counts) == 1
    assert counts.pop() <= (MAX_OPERATIONS_TRUNCATING if "top-h" in MIXES[mix] else MAX_OPERATIONS)


def test_a_kernel_is_used_only_inside() -> None:
    with using("torch"):
        assert os.environ["FORKPOINT_KERNEL"] == "torch"
    assert os.environ.get("FORKPOINT_KERNEL") != "torch"
