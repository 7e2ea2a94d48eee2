"""How exact and how fast the signals are on this machine: `python -m forkpoint_policies.kernel.signals.check [--cpu]`.

Needs torch, and Triton or numba for what they do. On a GPU it times the one-pass kernel against one read of the logits;
without one it checks the same kernel in Triton's interpreter, on small shapes; with `--cpu` it times the CPU's
implementations. It exits with 1 if a signal is further from float64 than TOLERANCES, or if a row has other bits alone
than in a batch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import in_torch
from .definition import MIN_EXPONENT, Signals

if TYPE_CHECKING:
    from forkpoint_policies.kernel.signals import Implementation

VOCABULARY = 151_936  # Qwen3's
TOLERANCES = {"entropy": 2e-5, "varentropy": 2e-4, "top_probability": 2e-6}  # absolute: nats, nats², and none
REPEATS = 30
EXACT_ROWS = 16  # as float64 takes room


def main() -> int:
    parser = argparse.ArgumentParser(description="Check and time the signals on this machine.")
    parser.add_argument(
        "--cpu", action="store_true", help="time the CPU's implementations on one thread, whether or not there is a GPU"
    )
    if parser.parse_args().cpu:
        errors = on_cpu()
    elif torch.cuda.is_available():
        errors = on_gpu()
    else:
        errors = in_interpreter()
    for error in errors:
        print(f"FAILED: {error}")
    if not errors:
        limits = ", ".join(f"{name.replace('_', ' ')} {limit:.0e}" for name, limit in TOLERANCES.items())
        print(
            f"Passed: every signal within its tolerance of float64 ({limits}), and rows the same alone and in a batch."
        )
    return 1 if errors else 0


def random_logits(rows: int, vocabulary: int, device: str = "cpu") -> Tensor:
    """Rows as of a model, in turn flat, usual, peaked, and with a tenth of the tokens masked."""
    logits = torch.randn(
        rows, vocabulary, device=device, generator=torch.Generator(device).manual_seed(rows + vocabulary)
    )
    logits *= torch.tensor([0.5, 3.0, 8.0, 3.0], device=device).repeat(rows // 4 + 1)[:rows, None]
    logits[3::4, 1::10] = -torch.inf
    return logits


def exact(logits: Tensor) -> dict[str, Tensor]:
    """By the definitions, in float64."""
    log_p = torch.log_softmax(logits.double(), dim=-1)
    p, surprise = log_p.exp(), -log_p.clamp(min=torch.finfo(torch.float64).min)
    entropy = (p * surprise).sum(dim=-1)
    varentropy = (p * (surprise - entropy[:, None]).square_()).nan_to_num_().sum(dim=-1)
    return {"entropy": entropy, "varentropy": varentropy, "top_probability": p.amax(dim=-1)}


def largest_errors(signals: Signals, logits: Tensor) -> dict[str, float]:
    """Of each signal, over the first EXACT_ROWS rows."""
    found = exact(logits[:EXACT_ROWS])
    return {name: float((getattr(signals, name)[:EXACT_ROWS] - values).abs().max()) for name, values in found.items()}


def judge(implementation: Implementation, logits: Tensor, what: str) -> tuple[dict[str, float], list[str]]:
    """The largest errors, and what is wrong in words."""
    signals = implementation.measure(logits)
    errors = largest_errors(signals, logits)
    wrong = [f"{what}: {name} is {error:.1e} off" for name, error in errors.items() if not error <= TOLERANCES[name]]
    alone = implementation.measure(logits[-1:].clone())
    if any(not torch.equal(getattr(alone, name), getattr(signals, name)[-1:]) for name in vars(signals)):
        wrong.append(f"{what}: the last row differs alone and in the batch")
    return errors, wrong


def table(columns: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def on_gpu() -> list[str]:
    from . import in_triton

    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}; {VOCABULARY:,} logits per row, float32; "
        "the GPU's own times,"
    )
    print(f"medians of {REPEATS}; host: to enqueue a call. Few rows stay in the GPU's cache; 256 and more do not.")
    lines, failures = [], []
    for rows in (1, 16, 64, 256, 512):
        logits = random_logits(rows, VOCABULARY, "cuda")
        errors, wrong = judge(in_triton, logits, f"{rows} rows")
        failures += wrong
        kernel, host = gpu_microseconds(partial(in_triton.measure, logits))
        read, _ = gpu_microseconds(partial(in_triton.read, logits))
        fallback, _ = gpu_microseconds(partial(in_torch.measure, logits))
        speed = logits.nbytes / read / 1e3
        shown = [
            f"{kernel:.1f}",
            f"{read:.1f}",
            f"{kernel / read:.2f}",
            f"{speed:.0f}",
            f"{fallback:.1f}",
            f"{host:.0f}",
        ]
        lines.append([str(rows), *shown, *(f"{error:.1e}" for error in errors.values())])
        torch.cuda.set_sync_debug_mode("error")  # from here on, waiting for the GPU raises
        try:
            peak = in_triton.measure(logits).peak
            in_triton.weight_at(logits, peak, torch.ones_like(peak))
            in_triton.total_variation(logits, torch.ones_like(peak), torch.ones_like(peak))
        except RuntimeError as error:
            failures.append(f"{rows} rows: the host waits for the GPU ({error})")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    names = ["one pass µs", "one read µs", "ratio", "read GB/s", "torch µs", "host µs"]
    table(["rows", *names, *(f"{name} error" for name in TOLERANCES)], lines)
    return failures


def gpu_microseconds(call: Callable[[], Any]) -> tuple[float, float]:
    """The median time on the GPU, and the mean time on the host.

    The GPU sleeps until all calls are queued.
    """
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(REPEATS)]
    torch.cuda._sleep(20_000_000)  # cycles: some 10 ms
    begun = time.perf_counter()
    for begin, end in events:
        begin.record()
        call()
        end.record()
    host = (time.perf_counter() - begun) / REPEATS * 1e6
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events) * 1e3, host


def in_interpreter() -> list[str]:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
    from . import in_triton

    print("No GPU here: the Triton kernel is checked in Triton's interpreter, on small shapes, and nothing is timed.")
    lines, failures = [], []
    for rows, vocabulary in ((4, 1), (4, 5), (8, 1023), (8, 1024), (4, 1500), (4, 4097), (5, 20_000)):
        errors, wrong = judge(in_triton, random_logits(rows, vocabulary), f"{rows} × {vocabulary}")
        failures += wrong
        lines.append([str(rows), str(vocabulary), *(f"{error:.1e}" for error in errors.values())])
    table(["rows", "vocabulary", *(f"{name} error" for name in TOLERANCES)], lines)
    return failures


def unfused(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three signals as one would write them at first."""
    p = torch.softmax(logits, dim=-1)
    surprise = -torch.log_softmax(logits, dim=-1).clamp(min=2 * MIN_EXPONENT)
    entropy = (p * surprise).sum(dim=-1)
    return entropy, (p * (surprise - entropy[:, None]).square()).sum(dim=-1), p.amax(dim=-1)


class Traffic(TorchDispatchMode):
    """Counts the bytes that torch's operations read and write, each operand once."""

    moved = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in func.name():
            self.moved += sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor))
        return found


def on_cpu() -> list[str]:
    torch.set_num_threads(1)
    print(
        f"The CPU, one thread, torch {torch.__version__}; {VOCABULARY:,} logits per row, float32; µs per row, medians."
    )
    ways: dict[str, Callable[[Tensor], Any]] = {"torch": in_torch.measure, "unfused": unfused}
    try:
        from . import in_numba
    except ImportError as error:
        print(f"numba cannot be imported ({error}): the torch fallback is what measures here.")
    else:
        ways = {"numba": in_numba.measure, **ways}
    lines, failures = [], []
    for rows in (1, 16, 64, 256):
        logits = random_logits(rows, VOCABULARY)
        times = [cpu_microseconds(partial(way, logits), rows) for way in ways.values()]
        errors, wrong = judge(in_torch, logits, f"torch, {rows} rows")
        failures += wrong
        if "numba" in ways:
            errors, wrong = judge(in_numba, logits, f"numba, {rows} rows")
            failures += wrong
        ratio = f"{times[-1] / times[0]:.1f}"
        lines.append(
            [str(rows), *(f"{one:.1f}" for one in times), ratio, *(f"{error:.1e}" for error in errors.values())]
        )
    table(["rows", *ways, f"unfused/{next(iter(ways))}", *(f"{name} error" for name in TOLERANCES)], lines)
    logits = random_logits(1, VOCABULARY)
    for name, way in ways.items():
        if name == "numba":
            print("Bytes per logit, numba: 8 (it is read twice, the second time from the cache; nothing is written)")
            continue
        with Traffic() as traffic:  # type: ignore[no-untyped-call]
            way(logits)
        print(f"Bytes per logit, {name}: {traffic.moved / VOCABULARY:.0f} (what its operations read and write)")
    return failures


def cpu_microseconds(call: Callable[[], Any], rows: int) -> float:
    """The median time per row."""
    call()
    times = []
    for _ in range(max(3, REPEATS // rows)):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) / rows * 1e6


if __name__ == "__main__":
    sys.exit(main())
