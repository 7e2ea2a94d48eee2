"""Rows of a batch on as many of torch's threads as are worth waking."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

ELEMENTS_PER_THREAD = 1 << 20  # less than this is done before another thread has woken up


def num_parts(rows: int, vocabulary: int) -> int:
    """Into how many parts the rows of a batch are worth dividing."""
    parts = min(torch.get_num_threads(), rows, rows * vocabulary // ELEMENTS_PER_THREAD)
    return max(1, min(parts, len(_cores()))) if parts > 1 else 1


def run_parts(bounds: Sequence[int], work: Callable[[int, int], None]) -> None:
    """`work` from each bound to the next, each part on a thread of its own, the first on this one."""
    if len(bounds) <= 2:
        work(bounds[0], bounds[-1])
        return
    others = [_pool(os.getpid()).submit(work, *pair) for pair in pairwise(bounds[1:])]
    work(bounds[0], bounds[1])
    for other in others:
        other.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 - one per process, as a fork has no threads but the one that forked
    cores = _cores()
    return ThreadPoolExecutor(len(cores), "forkpoint-rows", initializer=lambda: os.sched_setaffinity(0, cores))


@cache
def _cores() -> frozenset[int]:
    """The cores to compute on: those of this thread or, where each of torch's threads is bound to one, as by vLLM,
    those of all.

    A new thread is bound like the one that started it: without this, all rows would be measured on one core. None if
    unknown.
    """
    if sys.platform != "linux":
        return frozenset()
    own = os.sched_getaffinity(0)
    if len(own) == 1:
        with suppress(OSError):  # a thread that ended in between
            threads = [os.sched_getaffinity(int(thread.name)) for thread in Path("/proc/self/task").iterdir()]
            own = set().union(*(cores for cores in threads if len(cores) == 1))
    return frozenset(own)
