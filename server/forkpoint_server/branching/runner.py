"""Grows the tree of one request: runs its answers in the engine, and gives them out as they come. A controller says what begins."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from forkpoint_policies.kernel.state_handover import Inherited, Path
from forkpoint_server import metrics
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.progress import finish_choice, open_traces
from forkpoint_server.requests.tree import Ending, Kind, Limits, Node, Tree
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import CompletionOutput, RequestOutput, RequestOutputKind, SamplingParams

from .choice_output import Answer, branched
from .seeds import derived_seed
from .state_handover import past_of
from .voting import Leaf

logger = logging.getLogger(__name__)

LAST_RECORDS_SECONDS = 0.25
"""How long an answer that has ended is waited for to tell of its last positions."""


@dataclass(frozen=True)
class Begin:
    """What a request of the tree begins with: tokens after the prompt, where its chance comes from, and the state it takes over.

    A probe is `greedy` and has at most `most_tokens`. Of a tree one request is `first`; the others go as the server has room.
    """

    tokens: list[int]
    seed: int
    word_state: int
    in_reasoning: bool
    inherited: Inherited | None = None
    greedy: bool = False
    most_tokens: int | None = None
    first: bool = True


Start = Callable[[Trace, Begin], AsyncGenerator[RequestOutput, None]]
"""Runs one request of the tree in the engine; it gives differences."""


@dataclass(eq=False)
class Grown:
    """A node with what has come of it, and the task that runs it."""

    node: Node
    answer: Answer
    seed: int
    replaces: bool = False  # an answer that was given up for it: its failure is the request's
    task: asyncio.Task[None] | None = None
    first: RequestOutput | None = None
    told: bool = False  # to its end
    leaf: Leaf | None = None  # once it has ended and was looked at

    @property
    def running(self) -> bool:
        return self.node.ended is None


class Controller(Protocol):
    """Says what begins and what is stopped. `together`: one answer is chosen, so only what is `certain` is given before the end."""

    together: bool

    def begin(self) -> None:
        """Begin what begins with the request."""

    def reached(self, grown: Grown, position: int) -> None:
        """An answer has got past a position at which the rule fired."""

    def advanced(self, grown: Grown) -> None:
        """More of an answer is there."""

    def ended(self, grown: Grown) -> None:
        """An answer or a probe has ended."""

    def chosen(self) -> Sequence[Grown]:
        """The answers to give, once all have ended."""

    def certain(self) -> tuple[Grown, int] | None:
        """The answer that will be given, as far as is known, and how many of its tokens will be in it whatever comes."""


@dataclass
class TreeRunner:
    """One request's tree while it grows. `origin` is where the prompt leaves it, `seed` the request's or one drawn for it."""

    intervention: RequestContext
    params: SamplingParams
    request_id: str
    origin: Begin
    seed: int
    limits: Limits
    start: Start
    tree: Tree = field(init=False)
    grown: list[Grown] = field(default_factory=list)
    keeps_alternatives: bool = False  # of all positions

    def __post_init__(self) -> None:
        self.tree = self.intervention.tree = Tree(self.limits)
        self._events: asyncio.Queue[tuple[Grown | None, RequestOutput | BaseException | None]] = asyncio.Queue()
        self._ended = 0
        self._hearing = False  # an event says that records came
        self._given = 0, 0  # tokens and characters of the one answer that is given

    @property
    def running(self) -> list[Grown]:
        return [grown for grown in self.grown if grown.running]

    async def outputs(self, controller: Controller) -> AsyncGenerator[RequestOutput, None]:
        """What vLLM's handlers are given: the answers as choices, as they come, or all together, or the one that was chosen."""
        together = self.params.output_kind == RequestOutputKind.FINAL_ONLY or controller.together
        follows = controller.together and self.params.output_kind == RequestOutputKind.DELTA
        reasons: list[str | None] = ["abort"]
        try:
            controller.begin()
            while self.running or not self._events.empty():
                grown, event = await self._events.get()
                if grown is None:
                    self._hearing = False
                else:
                    self._take(grown, event)
                    controller.advanced(grown)
                self._look(controller)
                if grown is not None and not grown.running and event is None:
                    controller.ended(grown)
                if grown is not None and not together and (output := self._told(grown)) is not None:
                    yield output
                if follows and (output := self._certain(controller)) is not None:
                    yield output
            chosen = controller.chosen()
            reasons = [grown.node.finish_reason for grown in chosen]
            if together:
                yield self._final(chosen)
        except Exception:
            reasons = ["error"]
            raise
        finally:
            for reason in reasons:
                finish_choice(self.intervention, reason or "abort")
            tasks = [grown.task for grown in self.grown if grown.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for node in self.tree.nodes[1:]:
                metrics.BRANCHES.labels(self.intervention.compiled.label, node.ended or "abort").inc()
            metrics.BRANCHES.labels(self.intervention.compiled.label, "refused").inc(self.tree.refused)

    def begin_root(self, seed: int) -> Grown | None:
        """Begin an answer at the prompt's end; None where there is no room for a further one."""
        first = not self.grown
        if not first and not self._room():
            return None
        node = self.tree.begin(self._open(0), None, 0, (), "answer")
        origin = self.origin
        begin = Begin([], seed, origin.word_state, origin.in_reasoning, first=first)
        return self._run(Grown(node, Answer(node.number), seed), begin)

    def begin(
        self, parent: Grown, position: int, given: Sequence[int], *, probability: float = 1.0, kind: Kind = "answer",
        most_tokens: int | None = None, replaces: bool = False,
    ) -> Grown | None:  # fmt: skip
        """Begin an answer, or a probe, that leaves another one at a position with these tokens; None where it cannot be.

        One that `replaces` the other needs no further room.
        """
        node, intervention = parent.node, self.intervention
        most = self.params.max_tokens
        if most is not None and position + len(given) >= most:
            return None
        tokens = [*node.tokens(position), *given]
        past = past_of(node, position, len(tokens), len(intervention.compiled.program.rules))
        if past is None:
            self.tree.refused += 1  # a record was lost: what the branch would take over is not known
            return None
        if not replaces and not self._room():
            return None
        path = Path(intervention.compiled.program, self.origin.word_state, self.origin.in_reasoning).follow(tokens)
        child = self.tree.begin(self._open(len(tokens)), node, position, tuple(given), kind)
        vocabulary = intervention.model.vocabulary
        answer = branched(child.number, parent.answer, position, given, probability, vocabulary, self.params)
        if kind == "answer":
            metrics.SHARED.labels(intervention.compiled.label).inc(position)
        seed = derived_seed(parent.seed, position, given[0] if kind == "answer" else -1)
        grown = Grown(child, answer, seed, replaces)
        if answer.finish_reason is not None:  # what is shared and given holds a stop string
            self.grown.append(grown)
            self._end(grown, "stop")
            self._events.put_nowait((grown, None))
            return grown
        begin = Begin(
            tokens,
            seed,
            path.word_state,
            path.in_reasoning,
            path.inherit(past),
            kind == "probe",
            most_tokens,
            first=False,
        )
        return self._run(grown, begin)

    def stop(self, grown: Grown, ending: Ending) -> None:
        """End an answer or a probe that is no longer wanted."""
        if not grown.running:
            return
        if grown.task is not None:
            grown.task.cancel()
        grown.answer.finish_reason = "length" if ending == "length" else "abort"
        self._end(grown, ending)

    def _room(self) -> bool:
        if self.limits.room():
            return True
        self.tree.refused += 1
        return False

    def _open(self, begun: int) -> Trace:
        trace = open_traces(self.intervention, 1, begun)[0]
        trace.watched = self.intervention.compiled.program.tree_rule_index
        trace.heard, trace.keeps_all = self._heard, self.keeps_alternatives
        return trace

    def _heard(self) -> None:
        if not self._hearing:
            self._hearing = True
            self._events.put_nowait((None, None))

    def _run(self, grown: Grown, begin: Begin) -> Grown:
        self.grown.append(grown)
        node = grown.node

        async def run() -> None:
            try:
                async with aclosing(self.start(node.trace, begin)) as outputs:
                    async for output in outputs:
                        self._events.put_nowait((grown, output))
                await node.trace.settle(time.monotonic() + LAST_RECORDS_SECONDS)
                self._events.put_nowait((grown, None))
            except asyncio.CancelledError:
                self._events.put_nowait((grown, RuntimeError("was cancelled")))  # of no account if it was us
                raise
            except Exception as error:  # noqa: BLE001  # it is told of where the answers are gathered
                self._events.put_nowait((grown, error))

        grown.task = asyncio.create_task(run())
        if not begin.first:
            self.limits.take()
            grown.task.add_done_callback(lambda _: self.limits.release())
        return grown

    def _take(self, grown: Grown, event: RequestOutput | BaseException | None) -> None:
        """Note what came of an answer. Raises the first one's error; that of another ends only that one."""
        node, answer = grown.node, grown.answer
        if not grown.running:
            return
        if isinstance(event, RequestOutput):
            if grown.first is None:
                grown.first = event
                if node.parent is not None and node.parent.ended is None:
                    node.delay = node.parent.length - node.position - 1
            for choice in event.outputs:
                answer.add(choice, self.params)
            if answer.finish_reason is not None and not event.finished and grown.task is not None:
                grown.task.cancel()  # a stop string at the seam, of which the engine does not know
                self._end(grown, "stop")
                self._events.put_nowait((grown, None))
        elif isinstance(event, BaseException):
            if node.number == 0 or grown.replaces:
                raise event
            logger.warning("a branch of %s ended with %s: %s", self.request_id, type(event).__name__, event)
            answer.finish_reason = "abort"
            self._end(grown, "error")
            self._events.put_nowait((grown, None))
        else:
            reasons: dict[str | None, Ending] = {"length": "length", "stop": "stop"}
            self._end(grown, reasons.get(answer.finish_reason, "abort"))

    def _end(self, grown: Grown, ending: Ending) -> None:
        node = grown.node
        node.finish_reason = grown.answer.finish_reason or "abort"
        node.ended, node.ended_at = ending, self._ended
        self._ended += 1

    def _look(self, controller: Controller) -> None:
        """Tell of the positions that were reported since the last look, the earliest of each answer first."""
        for grown in list(self.grown):
            node = grown.node
            trace, length = node.trace, len(grown.answer.tokens)
            if not trace.fresh or node.kind == "probe" or node.ended not in (None, "stop", "length"):
                continue
            reached = {position for position in trace.fresh if position < length and trace.counts(position)}
            trace.fresh = [position for position in trace.fresh if position not in reached]
            for position in sorted(reached):
                if position >= node.looked_until and position in node.trace.forks:
                    node.looked_until = position + 1
                    controller.reached(grown, position)

    def _told(self, grown: Grown) -> RequestOutput | None:
        """What is new of an answer, as a difference or whole."""
        difference = self.params.output_kind == RequestOutputKind.DELTA
        output = grown.answer.output(self.params, difference)
        if output is None or grown.told:
            return None
        if grown.running:
            output.finish_reason = None  # told once the answer's last forks were looked at
        grown.told = not grown.running
        return self._request_output([output], not self.running)

    def _certain(self, controller: Controller) -> RequestOutput | None:
        """What is new of the one answer that will be given."""
        known = controller.certain()
        if known is None:
            return None
        answer = known[0].answer
        answer.given_tokens, answer.given_characters = self._given
        output = answer.certain(known[1], self.params)
        if output is None:
            return None
        self._given = answer.given_tokens, answer.given_characters
        output.index = 0
        return self._request_output([output], finished=False)

    def _final(self, chosen: Sequence[Grown]) -> RequestOutput:
        outputs, difference = [], any(self._given)
        for index, grown in enumerate(chosen):
            grown.node.chosen = True
            if difference:
                grown.answer.given_tokens, grown.answer.given_characters = self._given
            output = grown.answer.output(self.params, difference)
            assert output is not None
            output.index, output.finish_reason = index, output.finish_reason or "abort"
            outputs.append(output)
        return self._request_output(outputs, finished=True)

    def _request_output(self, outputs: list[CompletionOutput], finished: bool) -> RequestOutput:
        first = self.grown[0].first
        return RequestOutput(
            request_id=self.request_id,
            prompt=first.prompt if first is not None else None,
            prompt_token_ids=first.prompt_token_ids if first is not None else None,
            prompt_logprobs=first.prompt_logprobs if first is not None else None,
            outputs=outputs,
            finished=finished,
            lora_request=first.lora_request if first is not None else None,
            num_cached_tokens=first.num_cached_tokens if first is not None else None,
        )
