"""What records cost the API server: decoded, stored per choice, and counted, in CPU time per token of one process.

Beside that, what they cost where the worker sums them, in the worker too.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.kernel.record_flags import IN_REASONING
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.worker.records import alternatives_type, encode, num_columns, row_type
from forkpoint_policies.worker.summed_rows import SummedRows
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.summary import count_in_metrics, summary
from forkpoint_server.traces.receiver import Receiver

from .kernel import FIRST_PLAIN, served_model
from .tables import Ratio, Row, Table

CONCURRENCY = (1, 16, 64, 256)
ANSWER_TOKENS = 500
POLICIES = ("observe", "nowait")
GOAL_TOKENS_PER_MICROSECOND = 1.0

Frames = list[bytes]


def records(rounds: int, sizes: Sequence[int] = CONCURRENCY) -> Table:
    """CPU time per token of answers that are generated side by side."""
    contexts = {name: _context(name) for name in POLICIES}
    rows = []
    for size in sizes:
        costs: dict[tuple[str, bool], list[Cost]] = {}
        for _ in range(rounds):
            for name, context in contexts.items():
                for summed in (False, True):
                    costs.setdefault((name, summed), []).append(asyncio.run(_run(context, size, summed)))
        rows += [_row(size, name, summed, found) for (name, summed), found in costs.items()]
    notes = (
        f"Answers of {ANSWER_TOKENS} tokens; one message per step, as the worker sends them; the answers end together.",
        "Counted: the sums of the response's `forkpoint` object, and the metrics. CPU time of the whole process.",
    )
    return Table("records", "records in the API server", ("tokens per µs",), rows, notes)


@dataclass(frozen=True)
class Cost:
    """CPU time per token in the server and, where it sums, in the worker; and what the worker sends."""

    microseconds: float
    worker_microseconds: float
    bytes: float


def _context(policy: str) -> RequestContext:
    model = served_model()
    compiled = replace(compile_policy(LIBRARY[policy].policy, model), label=policy)
    return RequestContext(
        compiled, model, Receiver(), find_connectors(model.vocabulary), model.fork_threshold, model_name="bench"
    )


async def _run(context: RequestContext, concurrency: int, summed: bool) -> Cost:
    receiver = Receiver()
    traces = [receiver.open(0, 0, context.fork_threshold, 0) for _ in range(concurrency)]
    rules = len(context.compiled.program.rules)
    steps = _steps([trace.handle for trace in traces], rules)
    started = time.process_time()
    messages = _sums(steps, context.fork_threshold, rules) if summed else _messages(steps, rules)
    worker_seconds = time.process_time() - started
    tokens = list(range(FIRST_PLAIN, FIRST_PLAIN + ANSWER_TOKENS))
    started = time.process_time()
    for frames in messages:
        receiver.read(frames)
    for trace in traces:
        trace.tokens += tokens
        trace.ended = True
        own = replace(context, receiver=receiver, traces=[trace], settled=True)
        await receiver.settle([trace])
        figures = summary(own)
        count_in_metrics(own)
        assert figures["complete"], "every token has its record"
    seconds = time.process_time() - started
    receiver.close(traces)
    await receiver.stop()
    num_tokens = concurrency * ANSWER_TOKENS
    num_bytes = sum(len(frame) for frames in messages for frame in frames)
    return Cost(seconds * 1e6 / num_tokens, worker_seconds * 1e6 / num_tokens, num_bytes / num_tokens)


def _steps(handles: Sequence[int], rules: int) -> list[NDArray[np.int32]]:
    """The rows of each step: one of each choice."""
    random = np.random.default_rng(0)
    kind = row_type(rules)
    steps = []
    for position in range(ANSWER_TOKENS):
        rows = np.zeros(len(handles), kind)
        rows["handle"], rows["position"] = handles, position
        rows["last_token"] = FIRST_PLAIN + position - 1
        rows["flags"] = IN_REASONING
        rows["entropy"] = random.exponential(0.4, len(handles))
        steps.append(rows.view(np.int32).reshape(len(handles), -1))
    return steps


def _messages(steps: Sequence[NDArray[np.int32]], rules: int) -> list[Frames]:
    """One message per step."""
    details = np.zeros((0, num_columns(alternatives_type(0))), np.int32)
    return [encode(rows, details, rules, 0.001) for rows in steps]


def _sums(steps: Sequence[NDArray[np.int32]], fork_threshold: float, rules: int) -> list[Frames]:
    """What the worker sends instead where nobody reads records one by one."""
    summed, messages = SummedRows(fork_threshold), []
    for rows in steps:
        summed.add(rows, rules, 0.001)
        messages.append(summed.take())
    return [message.encode() for message in (*messages, summed.take(everything=True)) if message is not None]


def _row(size: int, policy: str, summed: bool, costs: Sequence[Cost]) -> Row:
    numbers = [(own.microseconds, own.worker_microseconds) for own in costs]
    server, worker = (statistics.median(own) for own in zip(*numbers, strict=True))
    return Row(
        what=f"{size} at a time",
        arm=f"{policy}, summed" if summed else policy,
        ratios=(Ratio(tuple(1 / own.microseconds for own in costs)),),
        goal=GOAL_TOKENS_PER_MICROSECOND,
        aside=f"{server:.2f} µs a token, {worker:.2f} µs to encode in the worker, {costs[0].bytes:.1f} bytes a token",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    print(records(parser.parse_args().rounds).markdown())


if __name__ == "__main__":
    main()
