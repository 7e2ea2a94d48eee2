"""The kernels of a GPU on this CPU: block.cpp, compiled."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from forkpoint_policies.kernel.native import abi
from forkpoint_policies.kernel.native.build import SOURCE, header
from forkpoint_policies.worker.compiled_slots import CompiledSlots

FLAGS = ("-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC")


@cache
def library(*flags: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "columns.h").write_text(header())
        target = Path(folder, "block.so")
        source = Path(__file__).with_name("block.cpp")
        command = ("g++", *FLAGS, *flags, f"-I{folder}", f"-I{SOURCE}", str(source), "-o", str(target))
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(target))


class BlockKernels:
    """As kernel.native.device.Kernels."""

    part = 16  # as block.cpp's TOKENS_EACH and LANES make it

    def write(self, writes: abi.Writes, groups: int) -> None:
        library().block_write(ctypes.byref(writes), ctypes.c_longlong(groups))

    def measure(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step, parts: int) -> None:
        library().block_measure(ctypes.byref(tables), ctypes.byref(batch), ctypes.byref(step), ctypes.c_longlong(parts))

    def step(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step) -> None:
        library().block_step(ctypes.byref(tables), ctypes.byref(batch), ctypes.byref(step))


def slots_of_blocks(count: int, vocabulary: int, device: torch.device, depth: int = 1) -> CompiledSlots:
    """As worker.slots_of_step.slots_of_step, as on a GPU."""
    return CompiledSlots(count, vocabulary, device, depth, BlockKernels())
