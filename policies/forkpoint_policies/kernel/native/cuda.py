"""The step on an NVIDIA GPU: compiles source/cuda.cu for it, and launches its kernels.

Needs what PyTorch brings for GPUs: NVRTC, and the package cuda-bindings.
"""

from __future__ import annotations

import ctypes
import importlib
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from . import abi
from .build import SOURCE, CompilerError, header, stored

THREADS, MEASURING_THREADS = 1024, 256
"""Of a block that does a request's rows, and of one that measures parts of one row."""
TOKENS_EACH = 16
"""That a thread measures."""
OPTIONS = (
    "-std=c++17", "-default-device", "--fmad=false", "-diag-suppress=177", f"-DBLOCK_THREADS={THREADS}",
    f"-DMEASURING_THREADS={MEASURING_THREADS}", f"-DTOKENS_EACH={TOKENS_EACH}",
)  # fmt: skip
NAMES = ("forkpoint_write", "forkpoint_measure", "forkpoint_step")


def cubin(architecture: str) -> Path:
    """The compiled kernels for an architecture such as "sm_90", made if they were not yet. Raises CompilerError."""
    nvrtc = _bindings("nvrtc")
    sources = {str(one.relative_to(SOURCE)): one.read_text() for one in sorted(SOURCE.rglob("*.h"))}
    sources["columns.h"] = header()
    main = (SOURCE / "cuda.cu").read_text()
    options = (*OPTIONS, f"--gpu-architecture={architecture}")
    version = ".".join(map(str, _checked(nvrtc, nvrtc.nvrtcVersion())))
    digest = sha256("\0".join((main, *sources.values(), *options, version)).encode()).hexdigest()

    def make(target: Path) -> None:
        target.write_bytes(_compiled(nvrtc, main, sources, options))

    return stored(f"step-{architecture}-{digest[:24]}.cubin", make)


def _compiled(nvrtc: Any, main: str, sources: dict[str, str], options: tuple[str, ...]) -> bytes:
    names, texts = ([text.encode() for text in part] for part in (sources.keys(), sources.values()))
    program = _checked(nvrtc, nvrtc.nvrtcCreateProgram(main.encode(), b"cuda.cu", len(names), texts, names))
    try:
        (result,) = nvrtc.nvrtcCompileProgram(program, len(options), [one.encode() for one in options])
        if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = b" " * _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
            _checked(nvrtc, nvrtc.nvrtcGetProgramLog(program, log))
            raise CompilerError(f"NVRTC does not compile the step: {log.decode(errors='replace').strip()[:2000]}")
        found: bytes = b" " * _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, found))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return found


class CudaKernels:
    """The kernels on one device; they run in torch's current stream. Raises CompilerError where they cannot be made."""

    part = 32 * TOKENS_EACH

    def __init__(self, device: torch.device) -> None:
        self._device, self._driver = device, _bindings("driver")
        major, minor = torch.cuda.get_device_capability(device)
        torch.zeros(1, device=device)  # makes the device's context, in which the module is loaded
        try:
            module = self._done(self._driver.cuModuleLoadData(cubin(f"sm_{major}{minor}").read_bytes()))
            found = {name: self._done(self._driver.cuModuleGetFunction(module, name.encode())) for name in NAMES}
        except CompilerError:
            raise
        except RuntimeError as error:  # NVRTC is not there, say, or newer than the driver
            raise CompilerError(f"the step cannot be loaded: {error}") from error
        self._functions = found

    def write(self, writes: abi.Writes, groups: int) -> None:
        self._launch("forkpoint_write", (groups, 1), THREADS, writes)

    def measure(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step, parts: int) -> None:
        blocks = -(-parts * 32 // MEASURING_THREADS)
        self._launch("forkpoint_measure", (blocks, batch.rows), MEASURING_THREADS, tables, batch, step)

    def step(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step) -> None:
        self._launch("forkpoint_step", (batch.rows, 1), THREADS, tables, batch, step)

    def _launch(self, name: str, grid: tuple[int, int], threads: int, *parameters: ctypes.Structure) -> None:
        stream = torch.cuda.current_stream(self._device).cuda_stream
        addresses = (ctypes.c_void_p * len(parameters))(*(ctypes.addressof(one) for one in parameters))
        self._done(
            self._driver.cuLaunchKernel(
                self._functions[name], *grid, 1, threads, 1, 1, 0, stream, ctypes.addressof(addresses), 0
            )
        )

    def _done(self, results: tuple[Any, ...]) -> Any:
        """What a call of the driver returned. Raises RuntimeError where it failed."""
        error, *found = results
        if error != self._driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"the CUDA driver failed: {self._driver.cuGetErrorString(error)[1]!r}")
        return found[0] if found else None


@cache
def _bindings(module: str) -> Any:
    """A module of cuda-bindings. Raises CompilerError without it."""
    try:
        return importlib.import_module(f"cuda.bindings.{module}")
    except ImportError as error:
        raise CompilerError(f"no CUDA compiler was found: install cuda-bindings ({error})") from error


def _checked(nvrtc: Any, results: tuple[Any, ...]) -> Any:
    error, *found = results
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompilerError(f"NVRTC failed: {error}")
    return found[0] if len(found) == 1 else found
