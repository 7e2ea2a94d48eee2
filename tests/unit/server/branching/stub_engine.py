"""A tree whose requests run without an engine: a test chooses their tokens and records."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_policies.worker.records import DRAFT, IN_REASONING, RULES_SHIFT, num_columns, row_type
from forkpoint_server.branching.controllers import controller_of
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.branching.runner import TreeRunner
from forkpoint_server.engine.admission import EngineCapacity
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.tree import Node
from forkpoint_server.traces.likeliest import confidence_of
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.vocabularies import END, END_THINK, TARGET, tokens

A, B, C = tokens("so|but|let")
TRUNK = [A] * 6 + [END]
Play = Callable[[ChildStart], Sequence[int] | Exception]
"""The tokens that a request of the tree writes, or its failure."""


def record(
    position: int, entropy: float, top: float, fired: int, rules: int, draft: int | None = None
) -> tuple[int, int, bytes]:
    """A worker's record; `fired` has a bit per rule, `draft` is the token before the position if it is a draft."""
    numbers = np.zeros(4 + rules + 1 + 2 * rules, np.float32)
    numbers[0], numbers[2] = entropy, top
    flags = IN_REASONING | fired << RULES_SHIFT | (0 if draft is None else DRAFT)
    head = np.array([0, position, draft or 0, flags], np.int32)
    return num_columns(row_type(rules, branches=True)), rules, np.concatenate((head, numbers.view(np.int32))).tobytes()


@dataclass
class StubTree:
    """A tree whose requests write the tokens of `play`; the rule fires where `forks` says."""

    do: dict[str, Any] | Policy
    play: Play
    forks: Callable[[ChildStart, int], bool] = lambda start, position: True
    answers: int = 4
    max_running: int = 100
    seed: int = 5
    started: list[ChildStart] = field(default_factory=list)
    running: int = 0
    max_running_seen: int = 0
    lost: int | None = None  # a position whose record is lost
    drafts: dict[int, int] = field(default_factory=dict)  # the draft tokens before positions
    entropy: Callable[[ChildStart, int], float] = lambda start, position: 1.0
    top: float | Callable[[ChildStart, int], float] = 0.5
    longest: int = 40
    likely: Callable[[ChildStart], tuple[float, ...]] = lambda start: (0.5, 0.3, 0.1)
    likely_at: Callable[[int], tuple[float, ...]] | None = None  # in place of `likely`, by position
    margin: Callable[[ChildStart, int], float] | None = None
    certainty: Callable[[ChildStart], float] = lambda start: 1.0
    rank: Callable[[ChildStart, int], int] = lambda start, position: 1  # of the end of the reasoning
    likeliest: tuple[int, ...] = (A, B, C)  # the tokens that are so likely

    def __post_init__(self) -> None:
        policy = self.do if isinstance(self.do, Policy) else parse_policy({"rules": [{"do": self.do}]})
        compiled = replace(compile_policy(policy, TARGET), label="test")
        self.context = RequestContext(
            compiled, TARGET, Receiver(), find_connectors(TARGET.vocabulary), fork_threshold=0.672
        )
        self.params = SamplingParams(max_tokens=self.longest, output_kind=RequestOutputKind.DELTA)
        self.capacity = EngineCapacity(max_branches=self.max_running - 1, max_num_seqs=1000)
        origin = ChildStart([], self.seed, 0, Region.REASONING, Region.REASONING)
        self.runner = TreeRunner(
            self.context,
            self.params,
            "it\nERROR",
            origin,
            self.answers,
            self.capacity,
            self.start,
        )
        self.runner.tree.num_requested = self.answers

    async def start(self, trace: Trace, start: ChildStart) -> AsyncGenerator[RequestOutput, None]:
        self.started.append(start)
        self.running += 1
        self.max_running_seen = max(self.max_running_seen, self.running)
        try:
            await asyncio.sleep(0)
            written = self.play(start)
            if isinstance(written, Exception):
                raise written
            for number, token in enumerate(written):
                position = len(start.tokens) + number
                if position != self.lost:
                    program = self.context.compiled.program
                    fires = self.forks(start, position)
                    fired = fires << (program.tree_rule_index or 0)
                    for rank, rule in self.context.compiled.rank_rules if fires else ():
                        fired |= (self.rank(start, position) <= rank) << rule
                    draft = self.drafts.get(position)
                    top = self.top(start, position) if callable(self.top) else self.top
                    trace.add(*record(position, self.entropy(start, position), top, fired, len(program.rules), draft))
                here = self.likely(start) if self.likely_at is None else self.likely_at(position)
                likely = np.array(here, np.float32)
                trace.add_alternatives(
                    position, self.entropy(start, position), np.array(self.likeliest, np.int32), likely
                )
                confidence = float(confidence_of(likely[None])[0])
                margin = float(likely[0] - likely[1]) if self.margin is None else self.margin(start, position)
                trace.add_confidence(position, confidence, margin, self.certainty(start))
                trace.tokens.append(token)
                if start.trial is not None and start.trial.temperature > 0:  # the engine returns log-probabilities
                    top = self.top(start, position) if callable(self.top) else self.top
                    trace.raw_logprobs.append(math.log(top))
                if trace.on_records is not None:
                    trace.on_records()
                is_stop = token == END or (start.trial is not None and number == len(written) - 1)
                reason = "stop" if is_stop else None
                if reason is None and number + 1 == len(written) == start.max_tokens:
                    reason = "length"
                text = TARGET.vocabulary.tokens[token].decode()
                choice = CompletionOutput(0, text, [token], None, None, finish_reason=reason)
                first: Any = {"metrics": "measured", "kv_transfer_params": {"remote": 1}} if start.first else {}
                yield RequestOutput("it", None, None, None, [choice], reason is not None, **first)
                await asyncio.sleep(0)
        finally:
            self.running -= 1

    async def outputs(self) -> list[RequestOutput]:
        rule = self.context.compiled.policy.tree_rule
        assert rule is not None
        return [output async for output in self.runner.outputs(controller_of(self.runner, rule))]

    def run(self) -> list[Node]:
        try:
            self.outputs_sent = asyncio.run(self.outputs())
        finally:
            self.close()
        return self.runner.tree.nodes

    def close(self) -> None:
        assert self.running == 0
        assert self.capacity.num_branches == 0
        asyncio.run(self.context.receiver.stop())

    def texts(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for output in self.outputs_sent:
            for choice in output.outputs:
                found[choice.index] = found.get(choice.index, "") + choice.text
        return found


def rest(start: ChildStart) -> list[int]:
    """Continues with A to the length of the trunk."""
    return [A] * max(0, 6 - len(start.tokens)) + [END]


def number(start: ChildStart) -> list[int]:
    """Writes "so" after B, else "but"."""
    return [*rest(start)[:-1], END_THINK, A if B in start.tokens else C, END]
