"""The contract between the runner of a tree and its controller, which decides what starts, stops and is returned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from forkpoint_policies.compile.compiled_policy import Insertion
from forkpoint_policies.compile.regions import Regions
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.kernel.state_handover import Inherited
from forkpoint_server.requests.tree import Ending, Kind, Node, Tree
from forkpoint_server.vllm_seam import RequestOutput, SamplingParams

from .choice_output import ChoiceOutput
from .voting import Candidate


@dataclass(frozen=True)
class TrialSampling:
    """How a probe's trial answer is sampled, at most `max_tokens` long; the client's parameters are not for it."""

    max_tokens: int
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    presence_penalty: float = 0.0


@dataclass(frozen=True)
class ChildStart:
    """Where a request of the tree starts: the tokens after the prompt that it continues, its seed, and its state there.

    A probe's is a `trial`, with parameters of its own, and so is a last text that the likeliest tokens complete.
    Exactly one request of a tree is `first`: it enters the engine as the client's request; the others start only while
    the engine has room. Where states are changed, requests of one `cache_group` find what others of it computed.
    """

    tokens: list[int]
    seed: int
    word_state: int
    region: int  # a state of compile.regions
    counted: int  # as in AnswerStart
    inherited: Inherited | None = None
    trial: TrialSampling | None = None
    max_tokens: int | None = None
    first: bool = True
    sure: bool = False  # whether rules that wait for a sure probe act
    cache_group: int = 0


class TrialAnswer(NamedTuple):
    """A trial answer as it is compared, and as it was written: what a box of the trial holds, if there is one."""

    compared: str
    written: str


@dataclass(eq=False)
class Choice:
    """One answer or probe of the tree: its node, what it returns, and the task that runs it."""

    node: Node
    output: ChoiceOutput
    seed: int
    replaces_parent: bool = False  # the parent was stopped in its favour, so its failure is the request's
    task: asyncio.Task[None] | None = None
    first_output: RequestOutput | None = None
    last_output: RequestOutput | None = None
    finish_sent: bool = False
    cut_in_reasoning: bool = False  # it has ended before its answer began
    candidate: Candidate | None = None  # for the vote, read once it has ended
    trial_answer: TrialAnswer | None = None  # of a probe whose answers are compared, read once it has ended

    @property
    def running(self) -> bool:
        return self.node.ended is None


@dataclass(frozen=True)
class TreeRequest:
    """What a controller needs to know about the request whose tree it controls."""

    seed: int  # the request's own, or a sampled one
    max_answers: int
    params: SamplingParams
    vocabulary: Vocabulary
    regions: Regions
    region: int  # in which its answers start
    written_tokens: Sequence[int]  # with which a resumed answer continues
    trial: Insertion  # what a probe writes before its trial answers
    ending: Insertion  # what it writes where it ends the reasoning
    encode: Callable[[str], list[int]] | None
    stop: int  # the token that ends a text, NO_TOKEN without one
    confidence_bound: float | None  # of a probe that only measures
    rank_rules: Sequence[tuple[int, int]]  # ranks of the end of the reasoning, and the rules that mark them
    final_tokens: Sequence[int]  # the policy's text with which a resumed answer's last request starts
    takes_likeliest: bool  # the policy has a temperature of 0 somewhere
    connector_family: Callable[[int], str | None]  # of a token
    rules_out: Callable[[Sequence[int], int], bool]  # whether the policy's bans rule out a token after others


class TreeControl(Protocol):
    """What a controller may do with its tree."""

    request: TreeRequest
    tree: Tree
    choices: list[Choice]  # in the order of their nodes
    stores_all_alternatives: bool  # at every position, rather than only where the rule fired

    @property
    def running(self) -> list[Choice]: ...
    @property
    def has_room(self) -> bool:
        """Whether the engine has room for one more request of a tree."""

    def start_root(self, seed: int, needs_room: bool = True, max_tokens: int | None = None) -> Choice | None:
        """Start an answer at the end of the prompt; None without room for it, unless it needs none."""

    def start_child(
        self, parent: Choice, position: int, tokens: Sequence[int], *, probability: float = 1.0, kind: Kind = "answer",
        max_tokens: int | None = None, trial: TrialSampling | None = None, replaces_parent: bool = False,
        is_whole: bool = False, sure: bool = False,
    ) -> Choice | None:  # fmt: skip
        """Start an answer or a probe that leaves another one at a position with these tokens; None if it cannot start.

        The first token has this `probability` at temperature 1. One that replaces its parent needs no further room, and
        one that `is_whole` ends with these tokens. `sure`: rules that wait for a sure probe act in it.
        """

    def stop(self, choice: Choice, ending: Ending) -> None:
        """End an answer or a probe that is no longer needed."""


class Controller(Protocol):
    """Decides what starts and what stops. The runner calls each `on_` method after it has recorded the event.

    `returns_one`: one answer is selected, so that only its `settled` tokens are sent before the end.
    """

    returns_one: bool

    def start(self) -> None:
        """Start the first answers."""

    def on_fork(self, choice: Choice, position: int) -> None:
        """The rule fired at a position, and the answer has a token there. Called in the order of positions."""

    def on_tokens(self, choice: Choice) -> None:
        """A choice has more tokens, or has ended."""

    def on_end(self, choice: Choice) -> None:
        """A choice has ended, and its forks were reported."""

    def select(self) -> Sequence[Choice]:
        """The answers to return, once all have ended."""

    def settled(self) -> tuple[Choice, int] | None:
        """The answer that will be returned as far as is known, and how many of its tokens are certain."""
