"""The benchmark of a GPU, as far as it goes without one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from benchmarks.gpu_step import MIX, VOCABULARY, Figures, line, payload, served_model
from forkpoint_policies.compile.program import Program
from forkpoint_policies.library import LIBRARY


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it measures")
def test_without_a_gpu_it_says_what_measures_a_cpu() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu_step"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no CUDA GPU" in done.stderr
    assert "make bench ARGS=kernel" in done.stderr


def test_its_policies_compile_for_its_vocabulary() -> None:
    target = served_model()
    assert target.vocabulary.size == VOCABULARY
    assert set(MIX) <= set(LIBRARY)
    programs = [Program.unpack(payload(name, 0, target).program) for name in MIX]
    assert all(program.rules for program in programs)


def test_a_step_is_compared_with_one_read() -> None:
    found = Figures(
        "compiled", "nowait", 256, read_us=40.0, softmax_us=160.0, sampler_us=None, step_us=60.0, host_us=50.0,
        changing_host_us=90.0, operations=3, changing_operations=5, by_kernel_us={"measure": 45.0, "step": 15.0},
    )  # fmt: skip
    assert found.reads == 1.5
    assert "1.50 × one read" in line(found)
    assert "3 device operations, 5 when the batch changes" in line(found)
