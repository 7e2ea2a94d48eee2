"""The Triton kernels without a GPU: their results in Triton's interpreter, and that they compile for a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

# Each runs in a process of its own, as Triton reads TRITON_INTERPRET when it is imported.
SAME_AS_TORCH = """
import torch
from forkpoint_policies.kernel.signals import in_torch, in_triton

torch.manual_seed(0)
PART = in_triton.PART
for vocabulary in (1, 5, 1500, PART, PART + 1, 2 * PART + 9):  # one part, two, and three of a power of two
    logits = torch.randn(6, vocabulary) * torch.tensor([0.01, 1.0, 5.0, 40.0, 5.0, 5.0])[:, None]
    logits[4, 1:].masked_fill_(torch.rand(vocabulary - 1) < 0.9, -torch.inf)
    logits[5] = -torch.inf
    logits[1] += 1e4
    before, after = torch.tensor([1.0, 0.7, 2.0, 1.0, 0.1, 1.0]), torch.tensor([1.0, 1.3, 0.5, 3.0, 0.2, 2.0])

    found, expected = in_triton.measure(logits), in_torch.measure(logits)
    for name, values in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), values, rtol=1e-5, atol=1e-5, msg=f"{vocabulary} {name}")
    assert [values[5].item() for values in vars(found).values()] == [0.0, 1.0, 0.0, 0.0, 1.0]
    weights = in_triton.weight_at(logits, found.peak, before)
    torch.testing.assert_close(weights, in_torch.weight_at(logits, found.peak, before), rtol=1e-5, atol=1e-30)
    distances = in_triton.total_variation(logits, before, after)
    torch.testing.assert_close(distances, in_torch.total_variation(logits, before, after), rtol=1e-4, atol=1e-6)
    assert distances[0] == 0 and distances[5] == 0

    spaced = torch.full((12, vocabulary + 3), 99.0)
    spaced[::2, 1 : vocabulary + 1] = logits
    for other in (spaced[::2, 1 : vocabulary + 1], logits.t().contiguous().t(), logits[2:3], logits[2:5]):
        one = slice(None) if len(other) == 6 else slice(2, 2 + len(other))
        for name, values in vars(in_triton.measure(other)).items():
            assert torch.equal(values, getattr(found, name)[one]), (vocabulary, name)
        assert torch.equal(in_triton.weight_at(other, found.peak[one], before[one]), weights[one])
        assert torch.equal(in_triton.total_variation(other, before[one], after[one]), distances[one])

assert in_triton.measure(torch.empty(0, 100)).entropy.shape == (0,)

# Rounding in sums over a real vocabulary. Two rows, as the interpreter is slow.
logits = torch.randn(2, 151_936) * torch.tensor([1.0, 5.0])[:, None]
logits[0] += 1e4
logits[1, 1:].masked_fill_(torch.rand(151_935) < 0.9, -torch.inf)
before, after = torch.tensor([0.7, 2.0]), torch.tensor([1.3, 0.5])
found, expected = in_triton.measure(logits), in_torch.measure(logits)
for name, values in vars(expected).items():
    torch.testing.assert_close(getattr(found, name), values, rtol=1e-5, atol=1e-5, msg=name)
weights = in_triton.weight_at(logits, found.peak, before)
torch.testing.assert_close(weights, in_torch.weight_at(logits, found.peak, before), rtol=1e-5, atol=1e-30)
distances = in_triton.total_variation(logits, before, after)
torch.testing.assert_close(distances, in_torch.total_variation(logits, before, after), rtol=1e-4, atol=1e-6)
"""

COMPILES = """
import triton
from forkpoint_policies.kernel.signals import in_triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

NUMBERS = ("stride", "vocabulary", "parts", "rows")
for kernel in ("_measure_parts", "_join_parts", "_weigh_parts", "_vary_parts", "_sum_parts", "_read_parts"):
    function = getattr(in_triton, kernel)
    names = function.arg_names
    types = {name: "i32" if name in NUMBERS else "constexpr" if name == "SIZE" else "*fp32" for name in names}
    whole = {
        (at,): [["tt.divisibility", 16]]
        for at, name in enumerate(names)
        if types[name] == "*fp32" or name in NUMBERS[:2]
    }
    size, warps = (in_triton.PART, in_triton.WARPS) if "logits" in names else (64, 1)
    source = ASTSource(fn=function, signature=types, constexprs={(names.index("SIZE"),): size}, attrs=whole)
    options = {"num_warps": warps, "enable_fp_fusion": True}
    code = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    print(kernel, code.count("ld.global.v4"), code.count("atom.global"))
"""


def run(script: str, cache: Path, *, interpret: bool) -> str:
    environment = {
        **os.environ,
        "TRITON_INTERPRET": str(int(interpret)),
        "TRITON_CACHE_DIR": str(cache),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_kernels_compute_what_torch_does(tmp_path: Path) -> None:
    run(SAME_AS_TORCH, tmp_path, interpret=True)


@pytest.mark.slow
def test_the_kernels_compile_for_a_gpu_to_wide_loads_without_atomics(tmp_path: Path) -> None:
    """Each thread takes its 16 logits in four loads."""
    assert run(COMPILES, tmp_path, interpret=False).splitlines() == [
        "_measure_parts 4 0",
        "_join_parts 0 0",
        "_weigh_parts 4 0",
        "_vary_parts 4 0",
        "_sum_parts 0 0",
        "_read_parts 4 0",
    ]


@pytest.mark.slow
def test_the_check_runs_without_a_gpu(tmp_path: Path) -> None:
    code = "import sys; sys.argv[1:] = []; from forkpoint_policies.kernel.signals import check; sys.exit(check.main())"
    said = run(f"import torch; torch.cuda.is_available = lambda: False\n{code}", tmp_path, interpret=True)
    assert "No GPU here" in said
    assert "Passed" in said
