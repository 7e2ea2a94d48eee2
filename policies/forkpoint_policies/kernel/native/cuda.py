"""The step on an NVIDIA GPU: compiles source/cuda.cu for it, and launches its kernels. Needs what PyTorch brings for GPUs:
NVRTC, and the package cuda-bindings."""

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

THREADS, BLOCKS_AT_ONCE = 512, 2
"""Of a block, and the fewest blocks that a multiprocessor has room for at a time."""
TOKENS_PER_THREAD = 16
"""That it measures: TOKENS_EACH in source/block.h."""
OPTIONS = (
    "-std=c++17", "-default-device", "--fmad=false", "-diag-suppress=177", f"-DBLOCK_THREADS={THREADS}",
    f"-DBLOCKS_AT_ONCE={BLOCKS_AT_ONCE}", f"-DTOKENS_EACH={TOKENS_PER_THREAD}",
)  # fmt: skip
NAMES = ("forkpoint_write", "forkpoint_step")


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
        found = b" " * _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        _checked(nvrtc, nvrtc.nvrtcGetCUBIN(program, found))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return found


class CudaKernels:
    """The kernels on one device; they run in torch's current stream. Raises CompilerError where they cannot be made."""

    tile, part = THREADS * TOKENS_PER_THREAD, 32 * TOKENS_PER_THREAD

    def __init__(self, device: torch.device) -> None:
        self._device, self._driver = device, _bindings("driver")
        major, minor = torch.cuda.get_device_capability(device)
        torch.empty(0, device=device)  # makes the device's context, in which the module is loaded
        image = cubin(f"sm_{major}{minor}").read_bytes()
        module = self._done(self._driver.cuModuleLoadData(image))
        self._functions = {name: self._done(self._driver.cuModuleGetFunction(module, name.encode())) for name in NAMES}

    def write(self, writes: abi.Writes, groups: int) -> None:
        self._launch("forkpoint_write", (groups, 1), writes)

    def step(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step, tiles: int) -> None:
        self._launch("forkpoint_step", (tiles, batch.rows), tables, batch, step)

    def _launch(self, name: str, grid: tuple[int, int], *parameters: ctypes.Structure) -> None:
        stream = torch.cuda.current_stream(self._device).cuda_stream
        addresses = (ctypes.c_void_p * len(parameters))(*(ctypes.addressof(one) for one in parameters))
        self._done(
            self._driver.cuLaunchKernel(
                self._functions[name], *grid, 1, THREADS, 1, 1, 0, stream, ctypes.addressof(addresses), 0
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
        raise CompilerError(f"there is no CUDA compiler: install cuda-bindings ({error})") from error


def _checked(nvrtc: Any, results: tuple[Any, ...]) -> Any:
    error, *found = results
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise CompilerError(f"NVRTC failed: {error}")
    return found[0] if len(found) == 1 else found
