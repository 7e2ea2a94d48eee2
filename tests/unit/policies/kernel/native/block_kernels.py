"""The kernels of a GPU on this CPU: block.cpp, compiled."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from forkpoint_policies.kernel.native import abi
from forkpoint_policies.kernel.native.build import SOURCE, header

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

    tile, part = 32, 16  # as block.cpp's TILE and PART are

    def write(self, writes: abi.Writes, groups: int) -> None:
        library().block_write(ctypes.byref(writes), ctypes.c_longlong(groups))

    def step(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step, tiles: int) -> None:
        library().block_step(ctypes.byref(tables), ctypes.byref(batch), ctypes.byref(step), ctypes.c_longlong(tiles))
