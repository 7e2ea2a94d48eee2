"""Per-request state on the device: allocated, read, advanced, preempted and restored."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from forkpoint_policies.actions.definition import MAX_STATE
from forkpoint_policies.compile.regions import Region
from forkpoint_policies.spec import MAX_RULES, MAX_WINDOW

from .batch import Layout, Turn
from .device_lookups import Mark
from .device_rules import Rules
from .program_uses import Uses
from .state_handover import HISTORY_BINS, Inherited


def advance(
    slots: Slots, layout: Layout, turn: Turn, position: Tensor, last_token: Tensor
) -> tuple[State, Tensor, Tensor | None]:
    """The state of a turn's rows before they are evaluated, the position of each, and which are idle.

    The first turn continues from the cell of the last draft that was accepted, the others from the row before. The
    pieces of a prompt before its last are idle: nothing is sampled there.
    """
    if turn.offset:
        state = slots.read(turn.first_cell + turn.offset - 1, layout.uses)
        committed, position, idle = torch.ones_like(state.core.region, dtype=torch.bool), state.core.position + 1, None
    else:
        evaluated = slots.state.core.position[turn.first_cell]
        idle = position < evaluated  # after a preemption a request's own tokens are computed again like a prompt
        position = torch.maximum(position, evaluated)
        accepted = position - evaluated
        level = 0 if slots.depth == 1 else (accepted - 1).clamp_(0, slots.depth - 1)
        state = slots.read(turn.first_cell + level, layout.uses)
        committed = accepted > 0
    return _advanced(state, layout, turn, committed, torch.where(committed, last_token, 0)), position, idle


def _advanced(state: State, layout: Layout, turn: Turn, committed: Tensor, token: Tensor) -> State:
    core, marks, texts, chances, history, window, entropies, actions = (
        getattr(state, one.name) for one in fields(State)
    )
    here, word_state = committed[:, None], core.word_state
    region = core.region
    if layout.regions is not None:
        region = torch.where(committed, layout.regions.follow(turn.program, region, token), region)
    if layout.moves is not None:
        word_state = torch.where(committed, layout.moves.follow(turn.program, word_state, token), word_state)
    if marks is not None and layout.marks is not None:
        count = layout.marks.rules
        connector = layout.marks.hit(Mark.SINCE, turn.program, core.word_state, token) & here
        previous = layout.marks.hit(Mark.PREVIOUS, turn.program, core.word_state, token)
        marks.connector[:, :count] = torch.where(connector, core.position[:, None], marks.connector[:, :count])
        marks.previous[:, :count] = torch.where(here, previous, marks.previous[:, :count])
    if texts is not None:
        texts = _written(texts, turn.rules, committed, token)
    if chances is not None:
        held, placed = chances.held + chances.pending_held * here, chances.placed + chances.pending_placed * here
        chances = replace(chances, held=held, placed=placed)
    if history is not None:
        history.counts.scatter_add_(1, history.pending[:, None], here.int())
    for sums in (window, entropies):
        if sums is not None:
            _add_pending(sums, core.position[:, None], here)
    if actions is not None:
        before = torch.where(committed[:, None, None], actions.after, actions.before)
        actions = ActionStates(before, before)
    acted = core.pending & here
    if layout.uses.instead and layout.marks is not None:
        met = layout.marks.hit(Mark.REPLACED, turn.program, core.word_state, token)
        acted[:, : layout.marks.rules] &= met | ~turn.rules.by_token
    core = Core(
        position=core.position,
        word_state=word_state,
        region=region,
        fired=core.fired + acted,
        pending=core.pending,
    )
    return State(core, marks, texts, chances, history, window, entropies, actions)


def _add_pending(window: Window, position: Tensor, committed: Tensor) -> None:
    """Add the pending number of a position to the running sums, where its token was committed; [n, 1] each."""
    at, following = (one % (MAX_WINDOW + 1) for one in (position, position + 1))
    summed = window.sums.gather(1, at) + window.pending[:, None]
    window.sums.scatter_(1, following, torch.where(committed, summed, window.sums.gather(1, following)))


def _written(texts: Texts, rules: Rules, committed: Tensor, token: Tensor) -> Texts:
    """One more token of a forced text, unless another token was sampled instead (the end of a thinking budget,
    say)."""
    rule, row = texts.pending.clamp(min=0), torch.arange(len(token), device=token.device)
    wanted = rules.text[row, rule, texts.offset.clamp(max=rules.text.shape[2] - 1)]
    on = (texts.pending >= 0) & (token == wanted) & (texts.offset + 1 < rules.text_length[row, rule])
    return Texts(
        rule=torch.where(committed, torch.where(on, texts.pending, NO_RULE), texts.rule),
        offset=torch.where(committed, torch.where(on, texts.offset + 1, 0), texts.offset),
        pending=texts.pending,
    )


NO_RULE = -1


@dataclass(frozen=True)
class Core:
    """`position` is the number of tokens before the row, `pending` the rules that fired there (in shadow: may have)."""

    position: Tensor  # [S] int64
    word_state: Tensor  # [S] int64
    region: Tensor  # [S] int64, a state of compile.regions
    fired: Tensor  # [S, MOST_RULES] int64
    pending: Tensor  # [S, MOST_RULES] bool


@dataclass(frozen=True)
class Preceding:
    """Per rule: the position of the last connector, 0 before any, and whether the last token is what it wants to come
    before."""

    connector: Tensor  # [S, MOST_RULES] int64
    previous: Tensor  # [S, MOST_RULES] bool


@dataclass(frozen=True)
class Texts:
    """The text being written: the rule that forces it (or NO_RULE) and how many of its tokens are there."""

    rule: Tensor  # [S] int64
    offset: Tensor  # [S] int64
    pending: Tensor  # [S] int64, the rule whose token is forced at this position


@dataclass(frozen=True)
class Chances:
    """Per rule that acts by chance: at how many of its positions the conditions of the rule that it is like held."""

    held: Tensor  # [S, MOST_RULES] float32
    placed: Tensor  # [S, MOST_RULES] float32
    pending_held: Tensor  # [S, MOST_RULES] float32
    pending_placed: Tensor  # [S, MOST_RULES] float32


@dataclass(frozen=True)
class History:
    """How many of the request's entropies lie in each bin."""

    counts: Tensor  # [S, HISTORY_BINS] int32
    pending: Tensor  # [S] int64, the bin of this position's entropy


@dataclass(frozen=True)
class Window:
    """Running sums of the request's confidences or entropies, in nats: the sum before position p is at p modulo
    MAX_WINDOW + 1."""

    sums: Tensor  # [S, MOST_WINDOW + 1] float64
    pending: Tensor  # [S] float64


@dataclass(frozen=True)
class ActionStates:
    """Per rule, the state of an action that is a file of its own: before this position's token, and after it."""

    before: Tensor  # [S, MAX_RULES, MAX_STATE] float32
    after: Tensor  # [S, MAX_RULES, MAX_STATE] float32


@dataclass(frozen=True)
class State:
    """The parts of the state that a batch uses; Core always."""

    core: Core
    marks: Preceding | None = None
    texts: Texts | None = None
    chances: Chances | None = None
    history: History | None = None
    window: Window | None = None  # of confidences
    entropies: Window | None = None
    actions: ActionStates | None = None


class Slots:
    """The cells of all slots: those of slot s are s * depth … s * depth + depth - 1, and one cell more."""

    def __init__(self, count: int, depth: int, device: torch.device) -> None:
        self.spare = count * depth  # a cell for what is to be forgotten
        cells = self.spare + 1
        integers: dict[str, Any] = {"dtype": torch.int64, "device": device}
        floats: dict[str, Any] = {"dtype": torch.float32, "device": device}
        flags: dict[str, Any] = {"dtype": torch.bool, "device": device}
        self.depth = depth
        self.state = State(
            Core(
                torch.zeros(cells, **integers),
                torch.zeros(cells, **integers),
                torch.full((cells,), Region.REASONING.value, **integers),
                torch.zeros(cells, MAX_RULES, **integers),
                torch.zeros(cells, MAX_RULES, **flags),
            ),
            Preceding(torch.zeros(cells, MAX_RULES, **integers), torch.zeros(cells, MAX_RULES, **flags)),
            Texts(
                torch.full((cells,), NO_RULE, **integers),
                torch.zeros(cells, **integers),
                torch.full((cells,), NO_RULE, **integers),
            ),
            Chances(*(torch.zeros(cells, MAX_RULES, **floats) for _ in range(4))),
            History(torch.zeros(cells, HISTORY_BINS, dtype=torch.int32, device=device), torch.zeros(cells, **integers)),
            window=_empty_window(cells, device),
            entropies=_empty_window(cells, device),
            actions=ActionStates(*(torch.zeros(cells, MAX_RULES, MAX_STATE, **floats) for _ in range(2))),
        )

    def start(self, slot: int, position: int, word_state: int, region: int) -> None:
        """Begin a request whose first `position` tokens are already reflected in the other arguments."""
        cells = slice(slot * self.depth, (slot + 1) * self.depth)
        for part in (getattr(self.state, one.name) for one in fields(State)):
            for one in fields(part):
                getattr(part, one.name)[cells] = 0
        self.state.core.position[cells] = position
        self.state.core.word_state[cells] = word_state
        self.state.core.region[cells] = region
        assert self.state.texts is not None
        self.state.texts.rule[cells] = NO_RULE
        self.state.texts.pending[cells] = NO_RULE

    def inherit(self, slot: int, inherited: Inherited) -> None:
        """Give a request that goes on with another one's answer the state of that answer; start() has been called."""
        cells = slice(slot * self.depth, (slot + 1) * self.depth)
        state, rules = self.state, len(inherited.fired)
        assert state.marks is not None
        assert state.chances is not None
        assert state.history is not None
        for ours, theirs in (
            (state.core.fired, inherited.fired),
            (state.marks.connector, inherited.connector),
            (state.marks.previous, inherited.previous),
            (state.chances.held, inherited.held),
            (state.chances.placed, inherited.placed),
        ):
            ours[cells, :rules] = torch.tensor(theirs, dtype=ours.dtype, device=ours.device)
        state.history.counts[cells] = torch.frombuffer(bytearray(inherited.history), dtype=torch.int32).to(
            state.history.counts
        )
        for window, sums in ((state.window, inherited.sums), (state.entropies, inherited.entropy_sums)):
            if sums and window is not None:
                window.sums[cells] = torch.frombuffer(bytearray(sums), dtype=torch.float64).to(window.sums)
        if inherited.actions and state.actions is not None:
            states = torch.frombuffer(bytearray(inherited.actions), dtype=torch.float32).view(rules, MAX_STATE)
            for cell in (state.actions.before, state.actions.after):
                cell[cells, :rules] = states.to(cell)

    def copy_of(self, slot: int, uses: Uses) -> State:
        """A slot's state, of the parts in use, to store while its request is preempted."""
        return self.read(
            torch.arange(slot * self.depth, (slot + 1) * self.depth, device=self.state.core.position.device), uses
        )

    def restore(self, slot: int, kept: State) -> None:
        """Give a resumed request its state back; the tokens committed since its last evaluation advance it in the next
        step."""
        cells = slice(slot * self.depth, (slot + 1) * self.depth)
        for part in fields(State):
            ours, theirs = getattr(self.state, part.name), getattr(kept, part.name)
            for one in fields(ours) if theirs is not None else ():
                getattr(ours, one.name)[cells] = getattr(theirs, one.name)

    def read(self, cells: Tensor, uses: Uses) -> State:
        """A copy of the state of these cells, of the parts in use."""

        def part(name: str, used: bool) -> Any:
            return _each(getattr(self.state, name), lambda tensor: tensor[cells]) if used else None

        return State(
            part("core", True),
            part("marks", uses.marks),
            part("texts", uses.texts),
            part("chances", uses.chances),
            part("history", uses.history),
            part("window", uses.window),
            part("entropies", uses.entropies),
            part("actions", uses.action_states),
        )

    def write(self, cells: Tensor, state: State) -> None:
        """Put the parts in use back."""
        for one in fields(State):
            ours, theirs = getattr(self.state, one.name), getattr(state, one.name)
            if theirs is not None:
                for field in fields(ours):
                    getattr(ours, field.name)[cells] = getattr(theirs, field.name)


def _empty_window(cells: int, device: torch.device) -> Window:
    return Window(
        torch.zeros(cells, MAX_WINDOW + 1, dtype=torch.float64, device=device),
        torch.zeros(cells, dtype=torch.float64, device=device),
    )


def _each(part: Any, change: Any) -> Any:
    return type(part)(*(change(getattr(part, one.name)) for one in fields(part)))
