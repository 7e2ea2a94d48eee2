"""Which rules fire at a position: each request's advanced state, and the conditions held against it.

All rules decide on what the model said, before any of them acts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from forkpoint_policies.actions import definition
from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.compile.program import RegionCode, Signal
from forkpoint_policies.compile.regions import IN_REASONING, IN_TOOL_CALL
from forkpoint_policies.spec import CONFIDENCE_TOKENS, MAX_RULES, MAX_WINDOW

from .batch import Layout, Turn
from .device_rules import SET_CHUNK, Rules, belongs
from .numerics import evaluate, uniform
from .sampled_range import possible_tokens
from .signals import Signals, measure, weight_at
from .state import NO_RULE, ActionStates, Chances, Core, History, State, Texts, Window
from .state_handover import BIN_EDGES_NATS, HISTORY_BINS, LOGARITHMIC_BIN, MIN_BIN_NATS

SMALLEST = torch.finfo(torch.float32).tiny

MIN_FOR_RANK = 16
"""Earlier tokens that a request needs before its own quantiles mean something."""

CATCH_UP_TOKENS = 16.0

_COIN, _DRAWN, _PLACE, _PAST = 0, MAX_RULES, 2 * MAX_RULES, 2 * MAX_RULES + 1  # salts: each purpose has its own chance


@dataclass(frozen=True)
class Seen:
    """What the decisions are made on, [n] each. `total`: as in Signals, at the request's temperature; `likeliest`: the
    token of greedy rows, -1 elsewhere. None where no rule looks at it."""

    entropy: Tensor  # float32
    varentropy: Tensor  # float32
    top_probability: Tensor  # float32
    peak: Tensor  # float32
    raw_total: Tensor  # float32
    total: Tensor  # float32
    confidence: Tensor | None  # float32 nats
    likeliest: Tensor | None  # int64
    at: Tensor | None = None  # [n, 3, R] float32: entropy, varentropy, top probability at each rule's temperature
    possible_from: Tensor | None = None  # [n] float32: tokens below this logit cannot be sampled
    possible_total: Tensor | None = None  # [n] float32: `total` without them
    hidden: Tensor | None = None  # [n, native.columns.NUM_HIDDEN] float32

    def of(self, turn: Turn) -> Seen:
        """What was seen in a turn's rows."""
        if turn.rows is None:
            return self
        parts: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(Seen)}
        taken: dict[str, Any] = {
            name: None if part is None else part.index_select(0, turn.rows) for name, part in parts.items()
        }
        return Seen(**taken)


@dataclass(frozen=True)
class Decision:
    """`forced` is the rule whose text is written here (or NO_RULE) and `token` what it writes; `shut` are rules whose
    tokens must not be sampled here, and `replaced` their probability; `refused` are rows in which the grammar
    forbids a forced token. `fired` includes the rules in shadow for which the token that is sampled here decides."""

    word_state: Tensor  # [n] int64
    region: Tensor  # [n] int64, as in Core
    position: Tensor  # [n] int64
    mass: Tensor  # [n, R] float32
    fired: Tensor  # [n, R] bool
    past_entropy: Tensor | None = None  # [n] float32 nats, sampled from the request's past, for a placebo
    replaced: Tensor | None = None  # [n, R] float32
    shut: Tensor | None = None  # [n, R] bool
    forced: Tensor | None = None  # [n] int64
    token: Tensor | None = None  # [n] int64
    refused: Tensor | None = None  # [n] bool
    told: Tensor | None = None  # [n, 2, R] float32, for this position what Chances sums up: held and placed
    action_states: Tensor | None = None  # [n, R, MAX_STATE] float32, as the tokens before left them


def look(values: Tensor, signals: Signals, layout: Layout, hidden: Tensor | None = None) -> Seen:
    """What the rules of a batch need to see, from its [n, vocabulary] logits."""
    confidence, likeliest, total = None, None, signals.total
    if layout.windowed is not None:
        chosen = values.index_select(0, layout.windowed)
        top = chosen.topk(min(CONFIDENCE_TOKENS, chosen.shape[1]), dim=-1).values
        possible = top > -torch.inf  # a grammar may leave fewer
        mean = torch.where(possible, top, 0.0).sum(dim=-1) / possible.sum(dim=-1).clamp(min=1)
        depth = signals.peak[layout.windowed] + signals.total[layout.windowed].log() - mean
        confidence = torch.zeros_like(signals.entropy).index_copy_(0, layout.windowed, depth)
    if layout.tempered is not None:
        chosen = layout.tempered
        weight = weight_at(values.index_select(0, chosen), signals.peak[chosen], layout.temperature[chosen]).clamp_(
            min=SMALLEST
        )
        total = total.index_copy(0, chosen, weight)
    if layout.uses.instead and layout.greedy is not None:
        likeliest = torch.full_like(layout.slot, -1)
        likeliest[layout.greedy] = values.index_select(0, layout.greedy).argmax(dim=-1)
    possible_from, possible_total = None, None
    if layout.limited is not None:
        possible_from, possible_total = possible_tokens(values, signals.peak, total, layout.limited)
    at = None
    if layout.measured_at:
        here = torch.stack((signals.entropy, signals.varentropy, signals.top_probability), dim=1)
        at = here[:, :, None].repeat(1, 1, layout.by_chance.shape[1])
        for other in layout.measured_at:
            found = measure(values.index_select(0, other.rows) / other.temperature)
            there = torch.stack((found.entropy, found.varentropy, found.top_probability), dim=1)
            chosen = torch.where(other.rules[:, None, :], there[:, :, None], at.index_select(0, other.rows))
            at.index_copy_(0, other.rows, chosen)
    return Seen(
        signals.entropy,
        signals.varentropy,
        signals.top_probability,
        signals.peak,
        signals.total,
        total,
        confidence,
        likeliest,
        at,
        possible_from,
        possible_total,
        hidden,
    )


def decide(
    state: State, seen: Seen, values: Tensor, layout: Layout, turn: Turn, position: Tensor
) -> tuple[Decision, State]:
    """Which rules fire in a turn's rows, and their state with this decision pending.

    `values` are the logits of all rows.
    """
    rules, uses, core, here = turn.rules, layout.uses, state.core, position[:, None]
    seen = seen.of(turn)
    mass = connector_mass(values, seen, turn, core.word_state)
    placed = _placed(core, rules, here)
    if uses.coins:
        placed &= _chance(turn, here, _COIN) < evaluate(rules.probability, here, seen.entropy[:, None])
    holds = _bounded(state, seen, values, mass, layout, turn, position)
    if uses.since or uses.marks:
        assert state.marks is not None
        count = holds.shape[1]
        holds &= here - state.marks.connector[:, :count] < rules.since_below
        holds &= state.marks.previous[:, :count] | ~rules.needs_previous
    fired, shut, replaced, awaiting = placed & holds, None, None, None
    if uses.instead:
        replaced = _would_be_sampled(values, seen, turn, core.word_state)
        awaiting = fired & rules.by_token
        fired &= ~rules.by_token
        drawn = _drawn(turn, position, replaced, fired & rules.instead & ~rules.by_chance) | ~rules.instead
        fired, shut = (
            fired & drawn,
            fired & ~drawn & (turn.temperature > 0)[:, None],
        )  # a greedy request picks others anyway
    past, told, chances, history, window, texts = None, None, state.chances, state.history, state.window, state.texts
    entropies = state.entropies
    if history is not None:
        history = History(history.counts, _bin(seen.entropy))
    if chances is not None:
        held = holds.float() if replaced is None else torch.where(rules.instead, holds * replaced, holds.float())
        told = torch.stack((held * placed, placed.float()), dim=1)
        chances = replace(chances, pending_held=_wide(told[:, 0]), pending_placed=_wide(told[:, 1]))
        place = uniform(turn.seed, position, _PLACE)
        fired = torch.where(rules.by_chance, placed & _by_chance(chances, core.fired, rules.by_chance, place), fired)
        shut = None if shut is None else shut & ~rules.by_chance
        if history is not None:
            past = _past_entropy(history, uniform(turn.seed, position, _PAST))
    if window is not None and seen.confidence is not None:
        window = Window(window.sums, seen.confidence.double())
    if entropies is not None:
        entropies = Window(entropies.sums, _windowed_entropy(seen, rules).double())
    decision = Decision(core.word_state, core.region, position, mass, fired, past, replaced, shut, told=told)
    if texts is not None:
        decision, texts = _force(decision, texts, values, turn)
    if awaiting is not None:
        idle = awaiting if decision.forced is None else awaiting & (decision.forced < 0)[:, None]
        decision = replace(decision, fired=decision.fired | idle)
    actions = state.actions
    if actions is not None:
        decision = replace(decision, action_states=actions.before[:, : holds.shape[1]])
        actions = ActionStates(actions.before, _after(actions.before, seen, decision, turn))
    core = Core(position, core.word_state, core.region, core.fired, _wide(decision.fired))
    return decision, State(core, state.marks, texts, chances, history, window, entropies, actions)


def _after(before: Tensor, seen: Seen, decision: Decision, turn: Turn) -> Tensor:
    """The states of actions [k, MAX_RULES, MAX_STATE] once this position's token is committed."""
    after = before.clone()
    for one in turn.stateful:
        action = ACTIONS[one.declared]
        assert action.advance is not None
        rows, kept = one.rows, slice(action.state_size)
        advanced_by = definition.Seen(
            seen.entropy[rows], decision.fired[rows, one.rule], decision.position[rows], one.parameters
        )
        after[rows, one.rule, kept] = action.advance(before[rows, one.rule, kept], advanced_by)
    return after


def connector_mass(values: Tensor, seen: Seen, turn: Turn, word_state: Tensor) -> Tensor:
    """The probability of each rule's connectors at temperature 1, [k, R]."""
    rules = turn.rules
    if not rules.mass_tokens.shape[2]:
        return values.new_zeros(rules.region.shape)
    counts = belongs(rules.mass_states, word_state)
    depth = turn.pick(values, rules.mass_tokens) - seen.peak[:, None, None]
    weight = torch.where(counts, depth.exp(), 0.0)
    return set_sum(weight.flatten(0, 1)).view(rules.region.shape) / seen.raw_total[:, None]


def _has_likeliest(values: Tensor, seen: Seen, turn: Turn, word_state: Tensor) -> Tensor:
    """Whether the likeliest token is one of each rule's connectors, [k, R]: 1 or 0."""
    counts = belongs(turn.rules.mass_states, word_state)
    found = counts & (turn.pick(values, turn.rules.mass_tokens) >= seen.peak[:, None, None])
    return found.any(dim=-1).float()


def set_sum(values: Tensor) -> Tensor:
    """The sum over the last dimension, SET_CHUNK by SET_CHUNK: padding to a longer set adds exact zeros at the end."""
    total = values.new_zeros(values.shape[0])
    for begin in range(0, values.shape[1], SET_CHUNK):
        total = total + values[:, begin : begin + SET_CHUNK].contiguous().sum(dim=-1)
    return total


def _placed(core: Core, rules: Rules, here: Tensor) -> Tensor:
    """Where a rule may act at all, regardless of the model: positions, region, and how often it did.

    In a tool call nothing but observation is possible: its arguments are the model's own.
    """
    in_reasoning, in_tool_call = ((core.region & bit != 0)[:, None] for bit in (IN_REASONING, IN_TOOL_CALL))
    wanted = torch.where(in_reasoning, RegionCode.REASONING.value, RegionCode.ANSWER.value)
    regional = ((rules.region == RegionCode.ANY.value) | (rules.region == wanted)) & (rules.observes | ~in_tool_call)
    left = core.fired[:, : rules.region.shape[1]] < rules.at_most
    placed = (here >= rules.first_position) & (here <= rules.last_position) & (here % rules.every == 0)
    return placed & regional & left


def _bounded(
    state: State, seen: Seen, values: Tensor, mass: Tensor, layout: Layout, turn: Turn, position: Tensor
) -> Tensor:
    """Whether every signal that a rule bounds lies within its bounds, [k, R]."""
    rules = turn.rules
    found = torch.ones_like(rules.by_chance)
    for signal in layout.uses.signals:
        if signal == Signal.MASS:
            value = mass
        elif signal == Signal.LIKELIEST:
            value = _has_likeliest(values, seen, turn, state.core.word_state)
        else:
            value = _signal(signal, state, seen, values, turn, position)
        low, high = rules.low[..., signal], rules.high[..., signal]
        found &= ((value > low) | (low == -torch.inf)) & (
            (value < high) | (high == torch.inf)
        )  # a signal may itself be infinite
    return found


def _signal(signal: int, state: State, seen: Seen, values: Tensor, turn: Turn, position: Tensor) -> Tensor:
    if signal >= Signal.EFFECTIVE_RANK:  # NaN lies within no bounds
        if seen.hidden is None:
            return torch.full_like(seen.entropy, torch.nan)[:, None]
        return seen.hidden[:, signal - Signal.EFFECTIVE_RANK, None]
    if signal == Signal.RANK:
        assert state.history is not None
        return _rank(state.history, _bin(seen.entropy))[:, None]
    if signal == Signal.CONFIDENCE:
        assert state.window is not None
        assert seen.confidence is not None
        return _windowed_mean(state.window, seen.confidence, turn.rules.window, position)
    if signal == Signal.MEAN_ENTROPY:
        assert state.entropies is not None
        entropy = _windowed_entropy(seen, turn.rules)
        return _windowed_mean(state.entropies, entropy, turn.rules.entropy_window, position)
    if signal == Signal.END_RANK:
        end = turn.pick(values, turn.reasoning_end.clamp(min=0)[:, None])
        rank = 1 + (turn.of(values) > end).sum(dim=-1, keepdim=True)
        return torch.where((turn.reasoning_end[:, None] >= 0) & (end > -torch.inf), rank.float(), torch.inf)
    if signal == Signal.END_MARGIN:
        end = turn.pick(values, turn.reasoning_end.clamp(min=0)[:, None])
        return torch.where(turn.reasoning_end[:, None] >= 0, seen.peak[:, None] - end, torch.inf)
    if seen.at is not None:
        return seen.at[:, _AT[Signal(signal)]]
    return {Signal.ENTROPY: seen.entropy, Signal.VARENTROPY: seen.varentropy}.get(Signal(signal), seen.top_probability)[
        :, None
    ]


_AT = {Signal.ENTROPY: 0, Signal.VARENTROPY: 1, Signal.TOP_PROBABILITY: 2}


def _windowed_entropy(seen: Seen, rules: Rules) -> Tensor:
    """The entropy [k] that a request's window sums up: at the temperature of its rules that bound the mean."""
    if seen.at is None:
        return seen.entropy
    first = (rules.entropy_window > 0).int().argmax(dim=-1, keepdim=True)
    return seen.at[:, 0].gather(1, first).squeeze(1)


def _bin(entropy: Tensor) -> Tensor:
    """Which of HISTORY_BINS an entropy lies in: equal steps of its logarithm, 4 % each."""
    return torch.bucketize(entropy, _edges(entropy.device), right=True)


@cache
def _edges(device: torch.device) -> Tensor:
    return torch.from_numpy(BIN_EDGES_NATS).to(device)


def _rank(history: History, bin_: Tensor) -> Tensor:
    """The share of earlier entropies in lower bins; -1 while there are too few of them."""
    below = torch.arange(HISTORY_BINS, device=bin_.device) < bin_[:, None]
    counts = history.counts.sum(dim=-1)
    return torch.where(counts >= MIN_FOR_RANK, (history.counts * below).sum(dim=-1) / counts.clamp(min=1), -1.0)


def _past_entropy(history: History, chance: Tensor) -> Tensor:
    """An entropy in nats, sampled from the request's past ones and this one."""
    counts = history.counts.scatter_add(1, history.pending[:, None], torch.ones_like(history.counts[:, :1]))
    reached = counts.cumsum(dim=-1) > (chance * counts.sum(dim=-1))[:, None]
    return MIN_BIN_NATS * ((reached.int().argmax(dim=-1) + 0.5) * LOGARITHMIC_BIN).exp()


def _windowed_mean(window: Window, value: Tensor, width: Tensor, position: Tensor) -> Tensor:
    """The mean over each rule's window, which ends here with this value, [k, R]; infinite before the window is full."""
    here = position[:, None]
    until = window.sums.gather(1, here % (MAX_WINDOW + 1)) + value[:, None].double()
    since = window.sums.gather(1, (here + 1 - width).clamp(min=0) % (MAX_WINDOW + 1))
    return torch.where(here + 1 >= width, ((until - since) / width.clamp(min=1)).float(), torch.inf)


def _would_be_sampled(values: Tensor, seen: Seen, turn: Turn, word_state: Tensor) -> Tensor:
    """The probability of each rule's tokens at the request's temperature and under its top-k, top-p and min-p, before
    any rule acts, [k, R]; 1 or 0 for greedy rows."""
    rules, greedy = turn.rules, turn.temperature == 0
    counts = belongs(rules.target_states, word_state) & rules.instead[:, :, None]
    temperature = torch.where(greedy, 1.0, turn.temperature)[:, None, None]
    logits = turn.pick(values, rules.target_tokens)
    if seen.possible_from is not None:
        counts &= logits >= seen.possible_from[:, None, None]
    depth = (logits - seen.peak[:, None, None]) / temperature
    weight = torch.where(counts, depth.exp(), 0.0)
    total = seen.total if seen.possible_total is None else seen.possible_total
    drawn = set_sum(weight.flatten(0, 1)).view(rules.region.shape) / total[:, None]
    if seen.likeliest is not None:
        certain = (counts & (rules.target_tokens == seen.likeliest[:, None, None])).any(dim=-1)
        drawn = torch.where(greedy[:, None], certain.float(), drawn)
    return drawn


def _chance(turn: Turn, here: Tensor, salt: int) -> Tensor:
    """A number in [0, 1) for each rule of each row."""
    count = turn.rules.region.shape[1]
    return uniform(turn.seed[:, None], here, torch.arange(salt, salt + count, device=here.device))


def _drawn(turn: Turn, position: Tensor, replaced: Tensor, looked: Tensor) -> Tensor:
    """Of the rules that replace tokens, the one whose token is sampled here: their shares, which do not
    overlap, lie side by side, and the position's one number falls into one of them or into none."""
    share = torch.where(looked, replaced, 0.0)
    begin = share.cumsum(dim=-1) - share
    place = uniform(turn.seed, position, _DRAWN)[:, None]
    return (place >= begin) & (place < begin + share)


def _by_chance(chances: Chances, acted: Tensor, by_chance: Tensor, place: Tensor) -> Tensor:
    """Which rules act here by chance: each as often as its conditions held so far, and never two where they exclude
    each other.

    What a rule owes, its conditions having held more often than it acted, is made up for within about CATCH_UP_TOKENS.
    The rules' shares lie side by side on a circle of length 1, on which the position's one number falls.
    """
    count = by_chance.shape[1]
    held, placed = chances.held[:, :count], chances.placed[:, :count]
    share = held / placed.clamp(min=1.0) + (held - acted[:, :count]) / CATCH_UP_TOKENS
    share = torch.where(placed == 0, chances.pending_held[:, :count], share).clamp(0.0, 1.0)
    share = torch.where(by_chance, share, 0.0)
    begin = share.cumsum(dim=-1) - share
    return (place[:, None] - begin).remainder(1.0) < share


def _force(decision: Decision, texts: Texts, values: Tensor, turn: Turn) -> tuple[Decision, Texts]:
    """Go on with the text that is being written, or begin that of the first rule that wants to; no other rule acts
    meanwhile, but for what was decided before."""
    rules, row = turn.rules, torch.arange(len(texts.rule), device=texts.rule.device)
    count = rules.forces.shape[1]
    writing = texts.rule >= 0
    wants = decision.fired & rules.forces
    order = torch.arange(count, device=row.device)
    first = torch.where(wants, order, count).amin(dim=-1)
    rule = torch.where(writing, texts.rule, torch.where(first < count, first, NO_RULE))
    offset = torch.where(writing, texts.offset, 0)
    token = rules.text[row, rule.clamp(min=0), offset.clamp(max=rules.text.shape[2] - 1)]
    allowed = turn.pick(values, token[:, None]).squeeze(1) > -torch.inf
    refused = (rule >= 0) & ~allowed
    forced = torch.where(allowed, rule, NO_RULE)
    began = (order == forced[:, None]) & wants & ~writing[:, None]
    others = decision.fired & (rules.from_here | ~(forced >= 0)[:, None])
    fired = torch.where(rules.forces, began, others)
    shut = None if decision.shut is None else decision.shut & ~(forced >= 0)[:, None]
    decision = replace(decision, fired=fired, shut=shut, forced=forced, token=token, refused=refused)
    return decision, Texts(torch.where(refused, NO_RULE, texts.rule), offset, forced)


def _wide(values: Tensor) -> Tensor:
    """Per-rule values padded to MOST_RULES, as the slots hold them."""
    return torch.nn.functional.pad(values, (0, MAX_RULES - values.shape[1]))
