"""The step's own cost on this CPU, one thread, beside the step in torch's operations: `python -m benchmarks.step`.

With --json the figures are printed as one object: `operations` by mix, what torch and the compiled code are called for
in a step; `host_ms_256_rows_12_policies_changing`, a step without the work on the rows, while one request leaves and
one arrives at each; `times_faster_than_row_by_row_256` by policy; and `mix_of_8_against_observe`, a ratio of times.
Under `torch` are the same figures of the step in torch's operations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.kernel.row_threads import run_parts
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_policies.worker.slots_of_step import KERNEL_VARIABLE

from .kernel import CPU, FIRST_PLAIN, MIX_OF_8, payload, row_by_row, served_model, stepper
from .model import VOCABULARY

ROWS = 256
POLICIES = ("observe", "nowait", "dual-temperature", "top-h", "entropix")
MIX_OF_12 = (
    *MIX_OF_8, "min-p-at-forks", "amplify-conclusion", "cyclic-reflection", "greedy-when-unsure",
)  # fmt: skip
MIXES: dict[str, tuple[str, ...]] = {"observe": ("observe",), "nowait": ("nowait",), "mix of 12": MIX_OF_12}
RUN_PARTS = "forkpoint_policies.kernel.native.cpu.run_parts"
KERNELS = ("compiled", "torch")
VIEWS = {
    "view", "_unsafe_view", "unsqueeze", "squeeze", "slice", "select", "expand", "permute", "transpose", "t", "alias",
    "detach", "as_strided", "split", "unbind", "_reshape_alias", "lift_fresh",
}  # fmt: skip
"""Operations that do no work on a device."""


class Operations(TorchDispatchMode):
    """Counts what a step calls torch for, but for views, and its calls of compiled code."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = figures(args.rows, args.rounds)
    finally:
        torch.set_num_threads(threads)
    if args.json:
        print(json.dumps(found))
        return
    for kernel in KERNELS:
        print(kernel)
        for name, value in (found if kernel == "compiled" else found["torch"]).items():
            if name != "torch":
                print(f"  {name}: {value}")


def figures(rows: int, rounds: int) -> dict[str, Any]:
    """All figures, of both kernels in one interleaved run."""
    target = served_model()
    found = {kernel: dict[str, Any]() for kernel in KERNELS}
    for kernel in KERNELS:
        with using(kernel):
            found[kernel]["operations"] = {mix: operations(MIXES[mix], target, 8) for mix in MIXES}
            found[kernel]["host_ms_256_rows_12_policies_changing"] = host_ms(target)
    for kernel, times in times_of(rows, rounds, target).items():
        by_row = times.pop("row by row")
        found[kernel]["times_faster_than_row_by_row_256"] = {name: round(by_row / times[name], 2) for name in POLICIES}
        found[kernel]["mix_of_8_against_observe"] = round(times["mix of 8"] / times["observe"], 2)
    return {**found["compiled"], "torch": found["torch"]}


@contextmanager
def using(kernel: str) -> Iterator[None]:
    """Slots that are made inside step with this kernel."""
    with patch.dict(os.environ, {KERNEL_VARIABLE: kernel}):
        yield


def operations(policies: Sequence[str], target: ServedModel, rows: int) -> int:
    """How many operations a step of a batch that does not change takes: on a GPU each would be one on the device."""
    run, logits = stepper(policies, target, rows), torch.randn(rows, VOCABULARY)
    run(logits.clone())
    with calls_counted() as calls, Operations() as counted:
        run(logits)
    total: int = counted.count + calls[0]
    return total


@contextmanager
def calls_counted() -> Iterator[list[int]]:
    """The number of calls of compiled code in a list of one number."""
    calls = [0]

    def counting(bounds: Sequence[int], work: Callable[[int, int], None]) -> None:
        calls[0] += len(bounds) - 1
        run_parts(bounds, work)

    with patch(RUN_PARTS, counting):
        yield calls


def host_ms(target: ServedModel, steps: int = 200) -> float:
    """The median time of a step of 256 rows under 12 policies, and of the change of the batch before it, without the
    work on the rows. The step in torch's operations cannot be divided so: there it is the time of the layout."""
    slots = PolicySlots(256, VOCABULARY, CPU)
    payloads = [payload(MIX_OF_12[row % len(MIX_OF_12)], row, target) for row in range(256)]
    for row, one in enumerate(payloads):
        slots.add(row, one, 1.0, [])
    logits, last_tokens = torch.randn(256, VOCABULARY), torch.full((256,), FIRST_PLAIN)
    of_rows, prompt_lens = torch.arange(256, dtype=torch.int32), torch.zeros(256, dtype=torch.int32)
    seconds, laid_out = list[float](), hasattr(slots.slots, "layout")
    with patch(RUN_PARTS, lambda bounds, work: None):
        for number in range(20 if laid_out else steps):
            row = number % 256
            started = time.perf_counter()
            slots.remove(row)
            slots.add(row, payloads[row], 1.0, [])
            if laid_out:
                slots.slots._laid_out(of_rows.numpy())  # type: ignore[union-attr]
            else:
                batch = Batch(of_rows, torch.full((256,), number - 1), last_tokens, prompt_lens)
                slots.step(batch, logits)
                slots.destinations(batch)
            seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds) * 1e3, 3)


def times_of(rows: int, rounds: int, target: ServedModel) -> dict[str, dict[str, float]]:
    """By kernel and policy, the median CPU time of a step; each gets its logits fresh, untimed."""
    fresh = torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(rows)) * 3
    logits = torch.empty_like(fresh)
    arms: dict[tuple[str, str], Callable[[Tensor], object]] = {}
    for kernel in KERNELS:
        arms[kernel, "row by row"] = row_by_row
        with using(kernel):
            for name, policies in {**{one: (one,) for one in POLICIES}, "mix of 8": MIX_OF_8}.items():
                arms[kernel, name] = stepper(policies, target, rows)
    seconds = {arm: list[float]() for arm in arms}
    for number in itertools.count(-1):  # the first time is not counted
        if number == rounds:
            break
        for arm, run in arms.items():
            logits.copy_(fresh)
            started = time.process_time()
            run(logits)
            if number >= 0:
                seconds[arm].append(time.process_time() - started)
    return {
        kernel: {name: statistics.median(seconds[own, name]) for own, name in arms if own == kernel}
        for kernel in KERNELS
    }


if __name__ == "__main__":
    main()
