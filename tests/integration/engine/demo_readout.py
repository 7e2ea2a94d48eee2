"""A readout of the embedded model for tests, of a random direction."""

from __future__ import annotations

import numpy as np

from forkpoint_policies.hidden.artefact import Artefact, Model

SIZE = 192
NAME = "random"
CORRECT = "correct"
"""By which a policy of the library names one."""
DIRECTION = (np.random.default_rng(4).normal(size=SIZE) / 8).astype(np.float32)
READOUT = Artefact(
    "readout", Model("Qwen3ForCausalLM", SIZE), {"weight": DIRECTION, "bias": np.array(0.25, np.float32)}, "by hand"
)
