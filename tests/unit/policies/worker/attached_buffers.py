"""The buffers of a model that the hooks read, with a vector that the worker holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from forkpoint_policies.worker.artefacts import ARTEFACTS
from forkpoint_policies.worker.steering.hooks import Buffers
from forkpoint_policies.worker.steering.shared import STEERING, TABLE_ROWS
from tests.unit.policies.hidden.artefact_files import SIZE, VECTOR

MAX_POSITIONS = 64


@contextmanager
def attached(max_tokens: int, hooked: Sequence[int], again: Sequence[int] = ()) -> Iterator[Buffers]:
    """Those of a model with these hooked layers, and these that can be run again."""
    made = Buffers(torch.zeros(max_tokens, dtype=torch.int64), torch.zeros(max_tokens), MAX_POSITIONS)
    made.tables.update({layer: torch.zeros(TABLE_ROWS, SIZE) for layer in hooked})
    made.again.update({layer: torch.zeros(max_tokens, dtype=torch.bool) for layer in again})
    assert ARTEFACTS.put(VECTOR.raw) == ""
    STEERING.attach(made)
    yield made
    STEERING.attach(Buffers(torch.zeros(0, dtype=torch.int64), torch.zeros(0), MAX_POSITIONS))
