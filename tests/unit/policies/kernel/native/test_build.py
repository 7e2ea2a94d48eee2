"""The compiled step is made once, and its absence is no failure."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from forkpoint_policies.kernel.native import build, cpu
from forkpoint_policies.kernel.native.build import CompilerError
from forkpoint_policies.worker.compiled_slots import CompiledSlots
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE
from forkpoint_policies.worker.torch_slots import TorchSlots
from tests.unit.policies.factories import CPU
from tests.unit.policies.vocabularies import SIZE


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> str:
    """Not one of several, as for other tests of the kernel."""
    monkeypatch.setenv(KERNEL_VARIABLE, "compiled")
    return "compiled"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_a_step_is_compiled_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.library()
    assert first.parent == empty_cache / "forkpoint"
    assert [one.name for one in first.parent.iterdir()] == [first.name], "nothing else is left there"
    made = first.stat().st_mtime_ns
    assert build.library() == first
    assert first.stat().st_mtime_ns == made


def test_another_compiler_makes_another_step(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build.library()
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DOTHER"))
    assert build.library() != first


def test_without_a_compiler_the_slow_step_is_used(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(empty_cache))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.delenv(KERNEL_VARIABLE)
    cpu.load.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            slots = PolicySlots(1, SIZE, CPU)
    finally:
        cpu.load.cache_clear()
    assert isinstance(slots.slots, TorchSlots)
    assert (
        "steps are slower than they could be: there is no C++ compiler: install g++, or name one by CXX" in caplog.text
    )


def test_a_compiler_that_fails_says_why(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = empty_cache / "broken"
    broken.write_text("#!/bin/sh\necho out of registers >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(CompilerError, match="broken does not compile the step: out of registers"):
        build.library()


def test_the_slow_step_can_be_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, "torch")
    assert isinstance(PolicySlots(1, SIZE, CPU).slots, TorchSlots)
    monkeypatch.setenv(KERNEL_VARIABLE, "compiled")
    assert isinstance(PolicySlots(1, SIZE, CPU).slots, CompiledSlots)


def test_a_folder_that_cannot_be_written_is_passed_over(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_cache / "forkpoint").write_text("a file where the folder should be")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(empty_cache / "elsewhere"))
    assert build.library().parent == empty_cache / "elsewhere" / f"forkpoint-{os.getuid()}"
