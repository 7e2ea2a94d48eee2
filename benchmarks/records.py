"""What records cost the API server: decoded, stored per choice, and counted, in CPU time per token of one process."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.kernel.record_flags import IN_REASONING
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.worker.records import alternatives_type, encode, num_columns, row_type
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
        microseconds: dict[str, list[float]] = {name: [] for name in POLICIES}
        for _ in range(rounds):
            for name, context in contexts.items():
                microseconds[name].append(asyncio.run(_run(context, size)).microseconds)
        rows += [_row(size, name, microseconds[name]) for name in POLICIES]
    notes = (
        f"Answers of {ANSWER_TOKENS} tokens; one message per step, as the worker sends them; the answers end together.",
        "Counted: the sums of the response's `forkpoint` object, and the metrics. CPU time of the whole process.",
    )
    return Table("records", "records in the API server", ("tokens per µs",), rows, notes)


@dataclass(frozen=True)
class Cost:
    """CPU time per token."""

    microseconds: float


def _context(policy: str) -> RequestContext:
    model = served_model()
    compiled = replace(compile_policy(LIBRARY[policy].policy, model), label=policy)
    return RequestContext(
        compiled, model, Receiver(), find_connectors(model.vocabulary), model.fork_threshold, model_name="bench"
    )


async def _run(context: RequestContext, concurrency: int) -> Cost:
    receiver = Receiver()
    traces = [receiver.open(0, 0, context.fork_threshold, 0) for _ in range(concurrency)]
    rules = len(context.compiled.program.rules)
    messages = _messages([trace.handle for trace in traces], rules)
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
    return Cost(seconds * 1e6 / (concurrency * ANSWER_TOKENS))


def _messages(handles: Sequence[int], rules: int) -> list[Frames]:
    """One message per step, with a row of each choice."""
    random = np.random.default_rng(0)
    kind = row_type(rules)
    details = np.zeros((0, num_columns(alternatives_type(0))), np.int32)
    messages = []
    for position in range(ANSWER_TOKENS):
        rows = np.zeros(len(handles), kind)
        rows["handle"], rows["position"] = handles, position
        rows["last_token"] = FIRST_PLAIN + position - 1
        rows["flags"] = IN_REASONING
        rows["entropy"] = random.exponential(0.4, len(handles))
        messages.append(encode(rows.view(np.int32).reshape(len(handles), -1), details, rules, 0.001))
    return messages


def _row(size: int, policy: str, microseconds: Sequence[float]) -> Row:
    return Row(
        what=f"{size} at a time",
        arm=policy,
        ratios=(Ratio(tuple(1 / own for own in microseconds)),),
        goal=GOAL_TOKENS_PER_MICROSECOND,
        aside=f"{statistics.median(microseconds):.2f} µs a token",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    print(records(parser.parse_args().rounds).markdown())


if __name__ == "__main__":
    main()
