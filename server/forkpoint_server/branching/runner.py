"""Runs the requests of one tree in the engine and returns their answers. A controller decides what starts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

from forkpoint_policies.spec import Probe, extract_of
from forkpoint_server import metrics
from forkpoint_server.answers import read_answer
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.progress import StartState, finish_choice, num_alternatives, open_traces
from forkpoint_server.requests.tree import Ending, Kind, Tree
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import RequestOutput, RequestOutputKind, SamplingParams

from .banned_starts import BannedStarts
from .cache_groups import CacheGroups
from .candidate import text_after_reasoning
from .choice_output import ChoiceOutput, branch_output, text_of
from .interface import ChildStart, Choice, Controller, TreeRequest, TrialSampling
from .seeds import derived_seed
from .state_handover import StateHandover
from .tree_output import TreeOutput
from .trial_answer import read_trial

logger = logging.getLogger(__name__)

LAST_RECORDS_SECONDS = 0.25
"""How long to wait for the last records of an answer that has ended."""

StartRequest = Callable[[Trace, ChildStart], AsyncGenerator[RequestOutput, None]]
"""Runs one request of the tree in the engine; yields deltas, whose tokens are in the trace by then."""


class BranchCapacity(Protocol):
    """Admits the requests of trees to the engine."""

    def has_room(self) -> bool: ...
    def add_branch(self) -> None: ...
    def remove_branch(self) -> None: ...


@dataclass(frozen=True)
class Event:
    """A choice's next output, its failure, or its end if it has neither. Without a choice: records have arrived."""

    choice: Choice | None = None
    output: RequestOutput | None = None
    error: BaseException | None = None

    @property
    def is_end(self) -> bool:
        return self.choice is not None and self.output is None and self.error is None


@dataclass
class TreeRunner:
    """Runs the tree of one request, whose prompt leaves it at `origin`."""

    context: RequestContext
    params: SamplingParams
    request_id: str
    origin: ChildStart
    max_answers: int
    capacity: BranchCapacity
    start_request: StartRequest
    request: TreeRequest = field(init=False)
    tree: Tree = field(init=False)
    choices: list[Choice] = field(default_factory=list)
    stores_all_alternatives: bool = False

    def __post_init__(self) -> None:
        compiled, seed = self.context.compiled, self.origin.seed
        self.request = TreeRequest(
            seed=seed,
            max_answers=self.max_answers,
            params=self.params,
            vocabulary=self.context.model.vocabulary,
            regions=self.context.model.regions,
            region=self.origin.region,
            written_tokens=compiled.written_tokens(seed),
            trial=compiled.trial,
            ending=compiled.ending,
            encode=self.context.model.encode,
            stop=self.context.model.stop,
            confidence_bound=compiled.policy.confidence_bound,
            rank_rules=compiled.rank_rules,
            final_tokens=compiled.final,
            takes_likeliest=any(rule.do.temperature == 0 for rule in compiled.policy.rules),
            connector_family=self.context.connectors.family,
            rules_out=BannedStarts(compiled.policy, self.context.model, self.origin.region).rule_out,
        )
        self.tree = self.context.tree = Tree()
        rule = compiled.policy.tree_rule
        assert rule is not None
        assert rule.tree_action is not None
        self.tree.extract = self._extract = extract_of(rule.tree_action)
        self._probe = rule.tree_action if isinstance(rule.tree_action, Probe) else None
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._handover = StateHandover(compiled.program, self.origin)
        self._cache_groups = CacheGroups(compiled.program, self._handover)
        self._running: dict[int, Choice] = {}  # by the number of the node
        self._answers: list[Choice] = []
        self._unread: list[Choice] = []  # ended, and what they say is still to be read
        self._num_ended = 0
        self._records_pending = False  # an event says that records have arrived
        self._output = TreeOutput(self.request_id, self.params, self.choices)

    @property
    def running(self) -> list[Choice]:
        return list(self._running.values())

    @property
    def has_room(self) -> bool:
        return self.capacity.has_room()

    async def outputs(self, controller: Controller) -> AsyncGenerator[RequestOutput, None]:
        """What vLLM's handlers receive: the answers as choices, as they come or together, or the selected one."""
        at_end = controller.returns_one or self.params.output_kind == RequestOutputKind.FINAL_ONLY
        streams_settled = controller.returns_one and self.params.output_kind == RequestOutputKind.DELTA
        reasons: list[str | None] = ["abort"]
        try:
            controller.start()
            while self._running or not self._events.empty():
                event = await self._events.get()

                # record the event, and let the controller start and stop requests
                self._record(event)
                await self._read_answers()
                if event.choice is not None:
                    controller.on_tokens(event.choice)
                self._report_forks(controller)
                await self._read_answers()  # of branches that ended as they started
                if event.is_end and event.choice is not None and not event.choice.running:
                    controller.on_end(event.choice)

                # send what is new
                if event.choice is not None and not at_end:
                    output = self._output.update_of(event.choice, finished=not self._running)
                    if output is not None:
                        yield output
                if streams_settled and (settled := controller.settled()) is not None:
                    output = self._output.settled_update(*settled)
                    if output is not None:
                        yield output
            selected = controller.select()
            reasons = [choice.node.finish_reason for choice in selected]
            if at_end:
                yield self._output.final(selected)
        except Exception:
            reasons = ["error"]
            raise
        finally:
            await self._close(reasons)

    def start_root(self, seed: int, needs_room: bool = True, max_tokens: int | None = None) -> Choice | None:
        """Start an answer at the end of the prompt; None without room for it, unless it needs none."""
        first = not self.choices
        if not first and needs_room and not self._find_room():
            return None
        start = replace(self.origin, seed=seed, first=first, max_tokens=max_tokens)
        node = self.tree.add(self._open_trace(0, start), None, 0, (), "answer")
        return self._run(Choice(node, ChoiceOutput(node.number), seed), start)

    def start_child(
        self, parent: Choice, position: int, tokens: Sequence[int], *, probability: float = 1.0, kind: Kind = "answer",
        max_tokens: int | None = None, trial: TrialSampling | None = None, replaces_parent: bool = False,
        is_whole: bool = False, sure: bool = False,
    ) -> Choice | None:  # fmt: skip
        """Start an answer or a probe that leaves another one at a position with these tokens; None if it cannot start.

        The first token has this `probability` at temperature 1. One that replaces its parent needs no further room, and
        one that `is_whole` ends with these tokens. `sure`: rules that wait for a sure probe act in it.
        """
        node = parent.node

        # is it possible?
        longest = self.params.max_tokens
        if longest is not None and position + len(tokens) >= longest:
            return None
        shared_tokens = [*node.tokens(position), *tokens]
        past = self._handover.past_of(node, position, len(shared_tokens))
        if past is None:
            self.tree.num_refused += 1  # a record was lost, so the state that the branch would inherit is unknown
            return None
        if not replaces_parent and not self._find_room():
            return None

        # the new node, and what it shares
        path = self._handover.path_of(node, position).follow(tokens)
        state = ChildStart(shared_tokens, 0, path.word_state, path.region, path.region)
        trace = self._open_trace(len(shared_tokens), state)
        if kind == "probe":  # it is short, and its first distribution may be what is wanted
            trace.stores_all_alternatives, trace.max_alternatives = True, num_alternatives(self.context)
        group = self._cache_groups.of_child(self.tree.nodes, node, position, shared_tokens, past)
        child = self.tree.add(trace, node, position, tuple(tokens), kind)
        output = branch_output(
            child.number,
            parent.output,
            position,
            tokens,
            probability,
            self.request.vocabulary,
            self.params,
            None if kind == "probe" else self._first_stop(shared_tokens),
        )
        if is_whole:
            output.finish_reason = output.finish_reason or "stop"
        if kind == "answer":
            metrics.SHARED.labels(self.context.model_name, self.context.compiled.label).inc(position)
        seed = derived_seed(parent.seed, position, tokens[0] if kind == "answer" and tokens else -1)
        choice = Choice(child, output, seed, replaces_parent)
        if output.finish_reason is not None:  # the tokens that it starts with are all, or complete a stop string
            self._add(choice)
            self._end(choice, "stop")
            self._events.put_nowait(Event(choice))
            return choice

        # its request
        start = ChildStart(
            tokens=shared_tokens,
            seed=seed,
            word_state=path.word_state,
            region=path.region,
            counted=path.region,
            inherited=path.inherit(past),
            trial=trial,
            max_tokens=max_tokens,
            first=False,
            sure=sure,
            cache_group=group,
        )
        return self._run(choice, start)

    def stop(self, choice: Choice, ending: Ending) -> None:
        """End an answer or a probe that is no longer needed."""
        if not choice.running:
            return
        if choice.task is not None:
            choice.task.cancel()
        choice.output.finish_reason = "length" if ending == "length" else "abort"
        self._end(choice, ending)

    def _first_stop(self, tokens: Sequence[int]) -> int | None:
        """From which character on stop strings count in an answer that starts with these tokens; None for nowhere."""
        if self.context.options.stop_in != "answer":
            return 0
        regions = self.request.regions.read(tokens, self.request.region)
        if regions.ends_in_reasoning:
            return None
        return len(text_of(tokens[: regions.answer_start], self.request.vocabulary, self.params))

    def _find_room(self) -> bool:
        """Whether there is room for one more request; one without is counted."""
        if self.has_room:
            return True
        self.tree.num_refused += 1
        return False

    def _open_trace(self, first_position: int, start: StartState) -> Trace:
        trace = open_traces(self.context, 1, start, first_position)[0]
        trace.tree_rule_index = self.context.compiled.program.tree_rule_index
        trace.stores_all_alternatives = self.stores_all_alternatives
        trace.listen(self._on_records)
        return trace

    def _on_records(self) -> None:
        if not self._records_pending:
            self._records_pending = True
            self._events.put_nowait(Event())

    def _run(self, choice: Choice, start: ChildStart) -> Choice:
        self._add(choice)
        choice.task = asyncio.create_task(self._run_request(choice, start))
        if not start.first:
            self.capacity.add_branch()
            choice.task.add_done_callback(lambda _: self.capacity.remove_branch())
        return choice

    def _add(self, choice: Choice) -> None:
        self.choices.append(choice)
        self._running[choice.node.number] = choice
        if choice.node.kind == "answer":
            self._answers.append(choice)

    async def _run_request(self, choice: Choice, start: ChildStart) -> None:
        """Turn what one request returns into events."""
        trace = choice.node.trace
        try:
            async with aclosing(self.start_request(trace, start)) as outputs:
                async for output in outputs:
                    self._events.put_nowait(Event(choice, output))
            await trace.settle(time.monotonic() + LAST_RECORDS_SECONDS)
            self._events.put_nowait(Event(choice))
        except asyncio.CancelledError:
            self._events.put_nowait(Event(choice, error=RuntimeError("was cancelled")))  # ignored if we stopped it
            raise
        except Exception as error:  # noqa: BLE001  # raised or logged where the events are recorded
            self._events.put_nowait(Event(choice, error=error))

    def _record(self, event: Event) -> None:
        """Note what happened to a choice. Raises the first choice's error; another one's ends only that choice."""
        choice = event.choice
        if choice is None:
            self._records_pending = False
        elif not choice.running:
            return
        elif event.output is not None:
            self._add_output(choice, event.output)
        elif event.error is not None:
            self._fail(choice, event.error)
        else:
            endings: dict[str | None, Ending] = {"length": "length", "stop": "stop"}
            self._end(choice, endings.get(choice.output.finish_reason, "abort"))

    def _add_output(self, choice: Choice, output: RequestOutput) -> None:
        node, choice.last_output = choice.node, output
        if choice.first_output is None:
            choice.first_output = output
            if node.parent is not None and node.parent.ended is None:
                node.delay = node.parent.length - node.position - 1
        for delta in output.outputs:
            choice.output.add(delta, self.params)
        if choice.output.finish_reason is not None and not output.finished and choice.task is not None:
            choice.task.cancel()  # a stop string at the seam, which the engine does not see
            self._end(choice, "stop")
            self._events.put_nowait(Event(choice))

    def _fail(self, choice: Choice, error: BaseException) -> None:
        if choice.node.number == 0 or choice.replaces_parent:
            raise error
        # the id is the client's and may hold line breaks
        logger.warning("a branch of %r ended with %s: %r", self.request_id, type(error).__name__, str(error))
        choice.output.finish_reason = "abort"
        self._end(choice, "error")
        self._events.put_nowait(Event(choice))

    def _end(self, choice: Choice, ending: Ending) -> None:
        node = choice.node
        node.finish_reason = choice.output.finish_reason or "abort"
        node.ended, node.end_order = ending, self._num_ended
        self._running.pop(node.number, None)
        self._num_ended += 1
        if node.kind == "answer" and ending in ("stop", "length"):
            regions = self.request.regions.read(choice.output.tokens, self.request.region)
            choice.cut_in_reasoning = regions.ends_in_reasoning
        whole = ending == "stop" and not choice.cut_in_reasoning
        if whole or (node.kind == "probe" and ending == "length"):
            self._unread.append(choice)

    async def _read_answers(self) -> None:
        """Read what the answers and probes that have ended say, before the controller sees that they have."""
        while self._unread:
            choice = self._unread.pop()
            if choice.node.kind == "probe" and self._probe is not None and self._probe.agreement is not None:
                choice.trial_answer = read = await read_trial(self.request, self._probe, choice)
                choice.node.answer = None if read is None else read.compared
            else:
                choice.node.answer = await read_answer(self._extract, text_after_reasoning(self.request, choice))

    def _report_forks(self, controller: Controller) -> None:
        """Report to the controller where the rule fired since the last time, each answer's positions in order."""
        for choice in list(self._answers):
            node = choice.node
            trace, length = node.trace, len(choice.output.tokens)
            if not trace.new_forks or node.ended not in (None, "stop", "length"):
                continue
            reached = {position for position in trace.new_forks if position < length and trace.is_valid(position)}
            trace.new_forks = [position for position in trace.new_forks if position not in reached]
            for position in sorted(reached):
                if position >= node.checked_until and position in trace.forks:
                    node.checked_until = position + 1
                    controller.on_fork(choice, position)

    async def _close(self, reasons: Sequence[str | None]) -> None:
        """Count how the request and its branches ended, and wait until none of its requests runs."""
        for reason in reasons:
            finish_choice(self.context, reason or "abort")
        tasks = [choice.task for choice in self.choices if choice.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in self.tree.nodes[1:]:
            metrics.BRANCHES.labels(self.context.model_name, self.context.compiled.label, node.ended or "abort").inc()
        metrics.BRANCHES.labels(self.context.model_name, self.context.compiled.label, "refused").inc(
            self.tree.num_refused
        )
