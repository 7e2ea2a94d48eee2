"""The tile registers of a CPU (AMX), which a process must ask Linux for before it uses them."""

from __future__ import annotations

import torch


def allow_amx(device: torch.device) -> bool:
    """Ask for the tile registers if the model runs on a CPU that has them; whether this process may use them now.

    vLLM's attention in bfloat16 uses them and does not ask: the first forward then ends the process with SIGILL, unless
    a library has asked before, as oneDNN does at its first large product of matrices.
    """
    return device.type == "cpu" and torch.cpu._init_amx()
