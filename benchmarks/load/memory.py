"""The resident memory of a server's processes while it works, and whether it stays flat."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import numpy as np
import psutil

SAMPLE_SECONDS = 1.0
MIB = 2**20
SERVER = "server"
"""The name of the process that was started, which stock vLLM and Forkpoint call differently."""


@dataclass
class Memory:
    """Of one process: its name, and pairs of time (seconds) and resident bytes."""

    name: str
    samples: list[tuple[float, int]] = field(default_factory=list)

    @property
    def peak_mib(self) -> float:
        return max(size for _, size in self.samples) / MIB

    def slope_mib_per_minute(self) -> float:
        """The least-squares slope over the second half of the time: the first fills caches."""
        times, sizes = (np.array(column, float) for column in zip(*self.samples, strict=True))
        second = times >= (times[0] + times[-1]) / 2
        return float(np.polyfit(times[second] / 60, sizes[second] / MIB, 1)[0])


@contextmanager
def sampled_memory(pid: int) -> Iterator[dict[int, Memory]]:
    """Sample a process and all below it, until the block ends; by their ids."""
    found: dict[int, Memory] = {}
    ending = threading.Event()

    def sample() -> None:
        while not ending.wait(SAMPLE_SECONDS):
            own = psutil.Process(pid)
            for one in (own, *own.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    name = SERVER if one.pid == pid else one.name()
                    found.setdefault(one.pid, Memory(name)).samples.append((time.monotonic(), one.memory_info().rss))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ending.set()
        thread.join()
