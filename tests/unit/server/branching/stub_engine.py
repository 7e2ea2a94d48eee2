"""A tree whose requests are played: they write what a test says, and report what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_policies.worker.records import DRAFT, IN_REASONING, RULES_SHIFT, num_columns, row_type
from forkpoint_server.branching.controllers import controller_of
from forkpoint_server.branching.runner import Begin, TreeRunner
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.tree import Limits, Node
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Trace, confidence_of
from tests.unit.policies.vocabularies import END, TARGET, tokens

A, B, C = tokens("so|but|let")
TRUNK = [A] * 6 + [END]
Play = Callable[[Begin], Sequence[int] | Exception]
"""What a request of the tree writes, or how it fails."""


def record(
    position: int, entropy: float, top: float, fired: int, rules: int, draft: int | None = None
) -> tuple[int, int, bytes]:
    """As the worker sends it; `fired` has a bit for each rule, and `draft` is the token before the position, if it is a draft."""
    numbers = np.zeros(4 + rules + 1 + 2 * rules, np.float32)
    numbers[0], numbers[2] = entropy, top
    flags = IN_REASONING | fired << RULES_SHIFT | (0 if draft is None else DRAFT)
    head = np.array([0, position, draft or 0, flags], np.int32)
    return num_columns(row_type(rules, branches=True)), rules, np.concatenate((head, numbers.view(np.int32))).tobytes()


@dataclass
class Played:
    """A tree whose requests write what `play` says; forks are where `forks` says."""

    do: dict[str, Any] | Policy
    play: Play
    forks: Callable[[Begin, int], bool] = lambda begin, position: True
    answers: int = 4
    at_once: int = 100
    begun: list[Begin] = field(default_factory=list)
    running: int = 0
    taken: int = 0
    lost: int | None = None  # a position whose record never comes
    drafts: dict[int, int] = field(default_factory=dict)  # the draft tokens before positions
    entropy: Callable[[Begin, int], float] = lambda begin, position: 1.0
    top: float = 0.5
    longest: int = 40
    likely: Callable[[Begin], tuple[float, ...]] = lambda begin: (0.5, 0.3, 0.1)

    def __post_init__(self) -> None:
        policy = self.do if isinstance(self.do, Policy) else parse_policy({"rules": [{"do": self.do}]})
        compiled = replace(compile_policy(policy, TARGET), label="test")
        self.intervention = RequestContext(
            compiled, TARGET, Receiver(), find_connectors(TARGET.vocabulary), fork_threshold=0.672
        )
        self.params = SamplingParams(max_tokens=self.longest, output_kind=RequestOutputKind.DELTA)
        limits = Limits(self.answers, lambda: 1 + self.taken < self.at_once, self.take, self.release)
        self.growth = TreeRunner(self.intervention, self.params, "it", Begin([], 0, 0, True), 5, limits, self.start)

    def take(self) -> None:
        self.taken += 1

    def release(self) -> None:
        self.taken -= 1

    async def start(self, trace: Trace, begin: Begin) -> AsyncGenerator[RequestOutput, None]:
        self.begun.append(begin)
        self.running += 1
        try:
            await asyncio.sleep(0)
            written = self.play(begin)
            if isinstance(written, Exception):
                raise written
            for number, token in enumerate(written):
                position = len(begin.tokens) + number
                if position != self.lost:
                    program = self.intervention.compiled.program
                    fired = self.forks(begin, position) << (program.tree_rule_index or 0)
                    draft = self.drafts.get(position)
                    trace.add(
                        *record(position, self.entropy(begin, position), self.top, fired, len(program.rules), draft)
                    )
                likely = np.array(self.likely(begin), np.float32)
                trace.add_alternatives(position, self.entropy(begin, position), np.array([A, B, C], np.int32), likely)
                trace.add_sureness(position, float(confidence_of(likely[None])[0]), float(likely[0] - likely[1]))
                trace.tokens.append(token)
                if trace.heard is not None:
                    trace.heard()
                reason = "stop" if token == END else None
                text = TARGET.vocabulary.tokens[token].decode()
                choice = CompletionOutput(0, text, [token], None, None, finish_reason=reason)
                yield RequestOutput("it", None, None, None, [choice], reason is not None)
                await asyncio.sleep(0)
        finally:
            self.running -= 1

    async def outputs(self) -> list[RequestOutput]:
        rule = self.intervention.compiled.policy.tree_rule
        assert rule is not None
        return [output async for output in self.growth.outputs(controller_of(self.growth, rule))]

    def grow(self) -> list[Node]:
        try:
            self.given = asyncio.run(self.outputs())
        finally:
            self.close()
        return self.growth.tree.nodes

    def close(self) -> None:
        assert (self.running, self.taken) == (0, 0)
        asyncio.run(self.intervention.receiver.stop())

    def texts(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for output in self.given:
            for choice in output.outputs:
                found[choice.index] = found.get(choice.index, "") + choice.text
        return found


def rest(begin: Begin) -> list[int]:
    """Goes on with A to the length of the trunk."""
    return [A] * max(0, 6 - len(begin.tokens)) + [END]
