"""Tables of servers: with Qwen3-0.6B's shape the model costs most, with the embedded model everything else does."""

from __future__ import annotations

import itertools
import math
import random
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from forkpoint_policies.tasks.countdown import held_out_puzzles
from forkpoint_server.cli import DEMO_ARGUMENTS
from forkpoint_server.demo import SERVED_NAME

from .arms import COLUMNS, Arm, Load, Plan, arms_of, compare
from .kernel import MIX_OF_8
from .model import write_qwen
from .request_load import Json
from .servers import both, without_and_with_telemetry
from .tables import Table

Goals = dict[tuple[str, ...], float | None]
QWEN_TOKENS = 48
QWEN_CONCURRENCY = (1, 8, 32)
REQUESTS_PER_GIBIBYTE = 32
"""Requests of up to 140 tokens in float32, of which one takes 224 KiB of cache."""
QWEN_GOALS: Goals = {(): 0.995, ("observe",): 0.98, ("nowait",): 0.98, MIX_OF_8: 0.98}
DEMO_CONCURRENCY = (64,)
DEMO_GOALS: Goals = {(): 0.99, ("observe",): 0.95, ("nowait",): None, MIX_OF_8: None}
DEMO_TOKENS = (
    400  # an easy puzzle takes about 100; the few answers that go astray shall not be the whole end of a round
)
DEMO_PUZZLES = 900
TELEMETRY_CONCURRENCY = (32,)
NOTES = (
    "`stock, again` is stock against itself, at the end of each round: what differs there is noise.",
    "CPU time: of the server and its engine, per token; other work on the machine disturbs it less than the rest.",
)


def qwen(plan: Plan, concurrency: Sequence[int]) -> Table:
    """Random weights: only the shape matters to the cost. All requests stream, and have the same number of tokens."""
    arguments = qwen_arguments(max(concurrency))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = str(write_qwen(folder / "model"))
        with both(folder, ["--model", model, *arguments], [model, *arguments]) as servers:
            arms, notes = arms_of(*servers, QWEN_GOALS)
            rows = [row for load in qwen_loads(concurrency) for row in compare(load, arms, plan)]
    title = f"Qwen3-0.6B's shape with random weights in {_dtype()}, {QWEN_TOKENS} tokens a request"
    return Table("qwen", title, COLUMNS, rows, [*NOTES, *notes])


def qwen_arguments(at_once: int) -> tuple[str, ...]:
    """How the model of that shape is served: the cache holds all requests that run at once."""
    gibibytes = math.ceil(at_once / REQUESTS_PER_GIBIBYTE)
    return (
        "--dtype", _dtype(),
        "--served-model-name", "qwen", "--load-format", "dummy", "--max-model-len", "1024",
        "--max-num-seqs", str(at_once), "--reasoning-parser", "qwen3", "--kv-cache-memory-bytes", f"{gibibytes}G",
    )  # fmt: skip


def qwen_loads(concurrency: Sequence[int]) -> list[Load]:
    """Streams of equal length, as many at once."""
    return [Load(f"{count} at once", count, _qwen_bodies) for count in concurrency]


def _dtype() -> str:
    """float32 on a CPU without instructions for bfloat16, where stock vLLM is several times slower in that."""
    bfloat16 = shutil.which("nvidia-smi") or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bfloat16" if bfloat16 else "float32"


def demo(plan: Plan, concurrency: Sequence[int]) -> Table:
    """Real puzzles and answers. A step takes a few milliseconds here, so this shows the overhead at its largest."""
    with tempfile.TemporaryDirectory() as folder, both(Path(folder), ["--model", *DEMO_ARGUMENTS], []) as servers:
        arms, notes = arms_of(*servers, DEMO_GOALS)
        rows = [row for load in demo_loads(concurrency) for row in compare(load, arms, plan)]
    return Table("demo", "the embedded model on puzzles", COLUMNS, rows, [*NOTES, *notes])


def telemetry(plan: Plan, concurrency: Sequence[int]) -> Table:
    """The kernel at work in both servers; to one of them its records come."""
    with tempfile.TemporaryDirectory() as folder, without_and_with_telemetry(Path(folder)) as (without, recorded):
        arms = [
            Arm("without", without, ("observe",)), Arm("with", recorded, ("observe",)),
            Arm("with, no policy", recorded), Arm("without, again", without, ("observe",)),
        ]  # fmt: skip
        rows = [row for load in demo_loads(concurrency) for row in compare(load, arms, plan)]
    columns = tuple(column.replace("stock", "one without") for column in COLUMNS)
    notes = (
        "All ask for `observe`, but for `with, no policy`, of which nothing is recorded.",
        "`without, again` shows what is noise.",
    )
    return Table("telemetry", "the embedded model with telemetry and without", columns, rows, notes)


def demo_loads(concurrency: Sequence[int]) -> list[Load]:
    """Puzzles, as many at once: answered whole, then streamed."""
    return [
        Load(f"{count} at once, {kind}", count, partial(_demo_bodies, stream=stream))
        for count in concurrency
        for kind, stream in (("whole answers", False), ("streams", True))
    ]


def _qwen_bodies(count: int) -> list[Json]:
    draw = random.Random(0)
    words = ("wait", "then", "so", "maybe", "first", "number", "since", "sum", "prove", "let", "therefore", "other")
    fixed = {
        "model": "qwen",
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "temperature": 1.0,
    }
    length = {"max_tokens": QWEN_TOKENS, "min_tokens": QWEN_TOKENS}
    return [
        {
            **fixed,
            **length,
            "seed": seed,
            "messages": [{"role": "user", "content": " ".join(draw.choices(words, k=24))}],
        }
        for seed in range(count)
    ]


def _demo_bodies(count: int, stream: bool) -> list[Json]:
    fixed: Json = {"model": SERVED_NAME, "temperature": 1.0, "max_tokens": DEMO_TOKENS}
    if stream:
        fixed |= {"stream": True, "stream_options": {"include_usage": True}}
    puzzles = itertools.cycle(held_out_puzzles("easy", DEMO_PUZZLES))
    return [
        {**fixed, "seed": seed, "messages": [{"role": "user", "content": puzzle.prompt}]}
        for seed, puzzle in zip(range(count), puzzles, strict=False)
    ]
