"""States that are kept for the server: those of the positions where a rule fires, as evaluated last."""

from __future__ import annotations

import numpy as np
import torch
from safetensors.numpy import load

from forkpoint_policies.kernel.native.columns import R_FLAGS, R_POSITION, RECORD_COLUMNS
from forkpoint_policies.kernel.record_flags import IN_REASONING, RULES_SHIFT
from forkpoint_policies.worker.kept_states import KeptStates

SIZE = 6
HANDLES = {2: 77, 5: 99}


def step(kept: KeptStates, *rows: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    """A step over rows of (slot, position, rules); the states of its rows."""
    record = torch.zeros(len(rows), RECORD_COLUMNS, dtype=torch.int32)
    for number, (_, position, rules) in enumerate(rows):
        record[number, R_POSITION], record[number, R_FLAGS] = position, rules << RULES_SHIFT | IN_REASONING
    states = torch.randn(len(rows), SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.bfloat16)
    kept.keep(HANDLES, np.array([slot for slot, _, _ in rows], np.int32), record, {"last": states})
    return states.float()


def with_one_request(limit: int = 8, max_bytes: int = 1 << 20) -> KeptStates:
    kept = KeptStates(max_bytes)
    for handle in HANDLES.values():
        kept.begin(handle, limit, ["last"])
    return kept


def test_they_are_kept_where_a_rule_fires() -> None:
    kept = with_one_request()
    first = step(kept, (2, 0, 1), (3, 7, 1), (5, 4, 0))
    second = step(kept, (2, 1, 0), (5, 5, 6), seed=1)
    found, other = load(kept.take(77)), load(kept.take(99))
    assert found["positions"].tolist() == [0]
    assert found["last"].tolist() == first[:1].tolist()
    assert (other["positions"].tolist(), other["rules"].tolist()) == ([5], [6])
    assert other["last"].tolist() == second[1:].tolist()
    assert kept.take(77) == b""


def test_the_last_evaluation_of_a_position_counts() -> None:
    """A rejected draft's position, or that of a prompt in pieces, comes again."""
    kept = with_one_request()
    step(kept, (2, 0, 1), (2, 1, 1))
    last = step(kept, (2, 0, 2), (2, 1, 0), seed=1)
    found = load(kept.take(77))
    assert (found["positions"].tolist(), found["rules"].tolist()) == ([0], [2])
    assert found["last"].tolist() == last[:1].tolist()


def test_no_more_than_the_first_ones() -> None:
    kept = with_one_request(limit=2)
    for position in (4, 1, 9, 3):
        step(kept, (2, position, 1))
    assert load(kept.take(77))["positions"].tolist() == [1, 3]


def test_a_preempted_request_goes_on() -> None:
    kept = with_one_request()
    step(kept, (2, 0, 1))
    kept.begin(77, 8, ["last"])
    step(kept, (2, 1, 1))
    assert load(kept.take(77))["positions"].tolist() == [0, 1]


def test_where_no_rule_fires_there_are_none() -> None:
    kept = with_one_request()
    step(kept, (2, -1, 1), (2, 0, 0))
    found = load(kept.take(77))
    assert found.keys() == {"positions", "rules"}
    assert not len(found["positions"])


def test_beyond_the_memory_the_oldest_are_dropped() -> None:
    kept = with_one_request(max_bytes=3 * SIZE * 4)
    step(kept, (2, 0, 1), (2, 1, 1))
    step(kept, (5, 0, 1), (5, 1, 1))
    assert kept.take(77) == b""
    assert len(load(kept.take(99))["positions"]) == 2
