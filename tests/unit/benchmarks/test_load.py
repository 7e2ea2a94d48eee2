"""The load's report: which growth of memory is a problem beside stock vLLM's."""

from __future__ import annotations

import pytest

from benchmarks.load.measurement import Measured, Plan
from benchmarks.load.memory import MIB, SERVER, Memory
from benchmarks.load.report import problems, tables
from benchmarks.load.streams import Stream
from benchmarks.load.turns import Block, Turns, table

PLAN = Plan(4, 600, 0, 0)
"""Flat is at most 1 MiB a minute in a run of this length."""
WORKER = "VLLM::Worker"


def _memory(name: str, mib_per_minute: float) -> Memory:
    return Memory(name, [(float(second), int((700 + mib_per_minute * second / 60) * MIB)) for second in range(600)])


def _measured(own: dict[str, float], stock: dict[str, float], wrong: str | None = None) -> Measured:
    streams = [Stream("policy", 0.0, tokens=10)]
    theirs = [Stream("policy", 0.0, tokens=10, wrong=wrong)]
    memory, stock_memory = ([_memory(*one) for one in some.items()] for some in (own, stock))
    return Measured(PLAN, streams, theirs, memory, stock_memory, {}, {}, {})


@pytest.mark.parametrize(
    ("own", "stock", "growing"),
    [
        ({WORKER: 0.9}, {WORKER: 0.0}, []),
        ({WORKER: 1.2}, {WORKER: 0.0}, [f"{WORKER} grows by 1.20 MiB a minute, stock vLLM's by 0.00"]),
        ({WORKER: 7.3}, {WORKER: 6.9}, []),
        ({WORKER: 7.3}, {WORKER: 6.1}, [f"{WORKER} grows by 7.30 MiB a minute, stock vLLM's by 6.10"]),
        ({WORKER: 0.9}, {WORKER: -5.0}, []),  # what stock gives back is not held against Forkpoint
        ({SERVER: 2.0}, {WORKER: 7.0}, [f"{SERVER} grows by 2.00 MiB a minute, stock vLLM's by 0.00"]),
    ],
)
def test_memory_may_grow_as_stock_vllm_does(own: dict[str, float], stock: dict[str, float], growing: list[str]) -> None:
    measured = _measured(own, stock)
    assert problems(measured) == growing
    memory = tables(measured)[1].markdown()
    assert ("NOT FLAT" in memory) == bool(growing)


def test_an_error_of_stock_vllm_is_a_problem() -> None:
    """Then the two were not under the same load."""
    assert problems(_measured({}, {}, wrong="no success")) == ["no success"]


def test_places_are_compared_with_the_first() -> None:
    def block(streams: int, wrong: int) -> Block:
        good = [Stream("policy", 0.0, whole_seconds=0.5) for _ in range(streams - wrong)]
        return Block([*good, *[Stream("policy", 0.0, wrong="no success")] * wrong], 10.0, 2.0)

    turns = Turns({"one": [block(100, 0), block(200, 0)], "three": [block(150, 1), block(300, 0)]}, 8, 10)
    one, three = (list(row.values()) for row in table(turns, "router", "requests go to").data()["rows"])
    assert one == ["one", "300", "0", "15.0", "0.500 (0.500)", "15.0"]
    assert three == ["three", "450", "1", "22.5 × 1.500 (1.500..1.500)", "0.500 (0.500)", "10.0 × 0.667 (0.667..0.667)"]
    assert turns.problems() == ["no success"]
