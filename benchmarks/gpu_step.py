"""One step of the kernel on an NVIDIA GPU: `PYTHONPATH=policies python benchmarks/gpu_step.py`.

Needs torch with Triton, and the policies package; neither vLLM nor a model. It compares each step with one read of the
logits and with torch's softmax over them, and counts what the device does. It exits with 1 where a signal is further
from float64 than its tolerance, or a row has other bits alone than in a batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import count, product
from string import ascii_lowercase, ascii_uppercase

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.regions import Region, single_token_regions
from forkpoint_policies.compile.served_model import ServedModel
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.kernel.signals.check import judge
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS
from forkpoint_policies.spec.connectors import FAMILIES, NOWAIT_WORDS, THINKING_WORDS
from forkpoint_policies.worker.compiled_slots import CompiledSlots
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.torch_slots import TorchSlots

VOCABULARY = 151_936  # Qwen3's
ROWS = (1, 16, 64, 256, 512)
KERNELS = ("compiled", "torch")
REPEATS = 20
SPECIAL = (b"<s>", b"</s>", b"<think>", b"</think>")
MIX = (
    "observe", "nowait", "dual-temperature", "entropix", "switch-penalty", "thinking-ban", "top-h", "min-p-at-forks",
    "amplify-conclusion", "amplify-reflection", "cyclic-reflection", "greedy-when-unsure",
)  # fmt: skip
MIXES: dict[str, tuple[str, ...]] = {"observe": ("observe",), "nowait": ("nowait",), "mix of 12": MIX}
FORKS_EVERY = 5
CERTAIN = (26.0, 18.0, 17.0, 16.0, 15.0, 14.0)  # logits of the likeliest tokens over a bulk of deviation 2
FORK = (22.0, 21.5, 21.0, 20.0, 19.0, 18.0)


@dataclass(frozen=True)
class Figures:
    """One mix at one number of rows. Times are the GPU's, medians in µs, but for the host's to enqueue a step."""

    kernel: str
    mix: str
    rows: int
    read_us: float
    softmax_us: float
    sampler_us: float | None
    step_us: float
    host_us: float
    changing_host_us: float
    operations: int
    changing_operations: int
    by_kernel_us: dict[str, float]

    @property
    def reads(self) -> float:
        """The step as a multiple of one read of the logits."""
        return self.step_us / self.read_us


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--policies", nargs="+", help="measure each of these alone, and no mix")
    parser.add_argument("--kernels", nargs="+", default=KERNELS, choices=KERNELS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "There is no CUDA GPU here: this measures one. The CPU's figures: make bench ARGS=kernel", file=sys.stderr
        )
        return 2
    mixes = MIXES if args.policies is None else {name: (name,) for name in args.policies}
    target = served_model()
    failures: list[str] = []
    found: list[Figures] = []
    for rows in args.rows:
        logits = as_of_a_model(rows)
        failures += check(logits)
        for kernel, (mix, policies) in product(args.kernels, mixes.items()):
            found.append(figures(kernel, mix, policies, logits, target))
            if not args.json:
                print(line(found[-1]), flush=True)
    if args.json:
        print(json.dumps([{**asdict(one), "reads": one.reads} for one in found]))
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


def served_model() -> ServedModel:
    """A made-up vocabulary of the size of Qwen3's: bytes, the policies' words, and strings of letters."""
    words = dict.fromkeys(word for family in (*FAMILIES.values(), NOWAIT_WORDS, THINKING_WORDS) for word in family)
    letters = (
        first + "".join(rest)
        for length in (1, 2, 3)
        for first in ascii_lowercase + ascii_uppercase
        for rest in product(ascii_lowercase, repeat=length)
    )
    texts = (form for word in words for form in (word, word.capitalize()))
    tokens = dict.fromkeys([*SPECIAL, *(bytes([byte]) for byte in range(256))])
    for text in (*texts, *letters):
        tokens.update(dict.fromkeys((text.encode(), f" {text}".encode())))
    vocabulary = Vocabulary(tuple(tokens)[:VOCABULARY], frozenset(range(len(SPECIAL))))
    regions = single_token_regions(SPECIAL.index(b"<think>"), SPECIAL.index(b"</think>"))
    return ServedModel(
        vocabulary,
        DEFAULT_FORK_THRESHOLD_NATS,
        regions,
        encode=lambda text: [len(SPECIAL) + byte for byte in text.encode()],  # byte by byte, after the special ones
    )


def as_of_a_model(rows: int) -> Tensor:
    """Logits [rows, VOCABULARY] as of a reasoning model: one row in FORKS_EVERY is a fork, the others are certain."""
    random = torch.Generator("cuda").manual_seed(rows)
    logits = 2 * torch.randn(rows, VOCABULARY, device="cuda", generator=random)
    likeliest = torch.randint(300, VOCABULARY, (rows, len(FORK)), device="cuda", generator=random)
    is_fork = (torch.arange(rows, device="cuda") % FORKS_EVERY == 0)[:, None]
    return logits.scatter(1, likeliest, torch.where(is_fork, logits.new_tensor(FORK), logits.new_tensor(CERTAIN)))


def check(logits: Tensor) -> list[str]:
    """What is wrong with the signals of these logits, in words."""
    from forkpoint_policies.kernel.signals import in_triton

    return judge(in_triton, logits, f"{len(logits)} rows")[1]


def figures(kernel: str, mix: str, policies: Sequence[str], fresh: Tensor, target: ServedModel) -> Figures:
    """Times and operations of steps that find these logits."""
    from forkpoint_policies.kernel.signals import in_triton

    rows, device = len(fresh), fresh.device
    make = TorchSlots if kernel == "torch" else CompiledSlots
    slots = make(rows, VOCABULARY, device)
    payloads = [payload(policies[row % len(policies)], row, target) for row in range(rows)]
    for row, one in enumerate(payloads):
        slots.add(row, one, 1.0, [], address=0)
    logits, last = torch.empty_like(fresh), 1000 + torch.arange(rows, dtype=torch.int32, device=device)
    position = torch.zeros(rows, dtype=torch.int64, device=device)
    of_rows, prompt_lens = torch.arange(rows, dtype=torch.int32), torch.zeros(rows, dtype=torch.int32, device=device)
    batch = Batch(of_rows.to(device), position, last, prompt_lens, known_slots=of_rows.numpy())
    changes = count()

    def refill() -> None:
        logits.copy_(fresh)
        position.add_(1)

    def whole() -> None:
        refill()
        slots.step(batch, logits, 0)

    def changing() -> None:
        row = next(changes) % rows
        slots.remove(row)
        slots.add(row, payloads[row], 1.0, [], address=0)
        slots.step(batch, logits, 0)

    whole_us, refill_us = on_gpu(whole), on_gpu(refill)
    return Figures(
        kernel=kernel,
        mix=mix,
        rows=rows,
        read_us=on_gpu(lambda: in_triton.read(fresh)),
        softmax_us=on_gpu(lambda: torch.softmax(fresh, dim=-1)),
        sampler_us=sampler_us(fresh),
        step_us=whole_us - refill_us,
        host_us=on_host(lambda: slots.step(batch, logits, 0)),
        changing_host_us=on_host(changing),
        operations=operations(whole) - operations(refill),
        changing_operations=operations(changing),
        by_kernel_us=by_kernel(whole),
    )


def sampler_us(logits: Tensor) -> float | None:
    """The time of vLLM's own sampling at temperature 1; None where vLLM is not installed."""
    try:
        from vllm.v1.worker.gpu.sample.gumbel import gumbel_sample
    except ImportError:
        return None
    rows, device = len(logits), logits.device
    numbers = torch.arange(rows, dtype=torch.int32, device=device)
    ones = torch.ones(rows, device=device)
    return on_gpu(lambda: gumbel_sample(logits, numbers, ones, numbers.long(), numbers.long(), False, False))


def by_kernel(call: Callable[[], object]) -> dict[str, float]:
    """The mean time on the GPU of each of our kernels, µs."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        for _ in range(REPEATS):
            call()
        torch.cuda.synchronize()
    return {
        one.key.removeprefix("forkpoint_"): one.device_time
        for one in recorded.key_averages()
        if one.key.startswith("forkpoint_")
    }


def payload(policy: str, seed: int, target: ServedModel) -> PolicyPayload:
    """A request's policy, as the server sends it."""
    compiled = compile_policy(LIBRARY[policy].policy, target)
    return PolicyPayload(
        compiled.packed, compiled.key, seed + 1, "", FREE, Region.REASONING, 0, seed, compiled.placebo_tokens(seed)
    )


def on_gpu(call: Callable[[], object]) -> float:
    """The median time on the GPU, µs; it sleeps until the first calls are queued, and waits for the host after them."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(REPEATS)]
    torch.cuda._sleep(20_000_000)  # cycles: some 10 ms
    for begin, end in events:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    milliseconds: list[float] = [begin.elapsed_time(end) for begin, end in events]
    return statistics.median(milliseconds) * 1e3


def on_host(call: Callable[[], object]) -> float:
    """The mean time that the host takes to enqueue a call, µs."""
    call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(REPEATS):
        call()
    host_us = (time.perf_counter() - started) / REPEATS * 1e6
    torch.cuda.synchronize()
    return host_us


def operations(call: Callable[[], object]) -> int:
    """How many kernels and copies the device executes."""
    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        call()
        torch.cuda.synchronize()
    return sum(1 for event in recorded.events() or () if event.device_type == torch._C._autograd.DeviceType.CUDA)


def line(one: Figures) -> str:
    """The figures in words."""
    parts = ", ".join(f"{name} {us:.1f}" for name, us in one.by_kernel_us.items())
    return (
        f"{one.kernel}, {one.rows:4d} rows, {one.mix}: {one.step_us:.0f} µs a step, {one.reads:.2f} × one read "
        f"({one.read_us:.1f} µs; softmax {one.softmax_us:.0f}, sampler {one.sampler_us}; {parts}); "
        f"{one.operations} device operations, {one.changing_operations} when the batch changes; "
        f"host {one.host_us:.0f} µs a step, {one.changing_host_us:.0f} when the batch changes"
    )


if __name__ == "__main__":
    sys.exit(main())
