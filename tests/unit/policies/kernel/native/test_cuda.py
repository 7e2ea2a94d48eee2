"""The step for GPUs compiles. NVRTC needs no GPU for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from forkpoint_policies.kernel.native import build, cuda
from forkpoint_policies.kernel.native.build import CompilerError


@pytest.fixture
def kernel() -> str:
    """Not one of several, as for other tests of the kernel."""
    return "cuda"


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_it_compiles_once(architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = cuda.cubin(architecture)
    assert made.read_bytes().startswith(b"\x7fELF")
    assert all(name.encode() in made.read_bytes() for name in cuda.NAMES)
    written = made.stat().st_mtime_ns
    assert cuda.cubin(architecture).stat().st_mtime_ns == written


def test_a_source_that_does_not_compile_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "header", lambda: build.header() + "\nint broken = ;\n")
    with pytest.raises(CompilerError, match=r"NVRTC does not compile the step: columns\.h\(\d+\): error"):
        cuda.cubin("sm_90")


def test_without_cuda_bindings_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forkpoint_policies.kernel.native.cuda.importlib.import_module", _absent)
    cuda._bindings.cache_clear()
    try:
        with pytest.raises(CompilerError, match="no CUDA compiler was found: install cuda-bindings"):
            cuda.cubin("sm_90")
    finally:
        cuda._bindings.cache_clear()


def _absent(name: str) -> None:
    raise ImportError(f"No module named {name!r}")
