"""The tile registers of a CPU: whoever asks for them may use them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from forkpoint_policies.worker.amx import allow_amx

ASK_LINUX = """
import ctypes
import sys

import torch

from forkpoint_policies.worker.amx import allow_amx

ARCH_PRCTL, GET_PERMISSIONS, TILE_DATA = 158, 0x1022, 18  # of x86-64, asm/prctl.h
asked = sys.argv[1] == "asked" and allow_amx(torch.device("cpu"))
permissions = ctypes.c_uint64(0)
ctypes.CDLL(None).syscall(ARCH_PRCTL, GET_PERMISSIONS, ctypes.byref(permissions))
print(bool(asked), bool(permissions.value >> TILE_DATA & 1))
"""


def in_a_new_process(what: str) -> str:
    return subprocess.run([sys.executable, "-c", ASK_LINUX, what], check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64 has these registers")
def test_a_process_that_asked_may_use_them_where_the_processor_has_them() -> None:
    has_amx = torch.cpu._is_amx_tile_supported()
    assert in_a_new_process("asked").split() == [str(has_amx), str(has_amx)]
    assert in_a_new_process("not asked").split() == ["False", "False"]


def test_a_model_on_a_gpu_needs_none() -> None:
    assert not allow_amx(torch.device("cuda"))
