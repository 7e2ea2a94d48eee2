"""What is constant until the batch changes: each row's program, and the actions on its rows in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor

from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.compile.program import NO_TOKEN, ON_SETS, Action, Program
from forkpoint_policies.compile.word_automaton import ANY_STATE

from .device_lookups import Marks, Moves, RegionMoves
from .device_rules import NEVER, Rules, padded
from .device_tables import Tables
from .program_uses import Acting, Uses
from .sampled_range import LimitedRows
from .sampling_limits import NO_LIMITS, SamplingLimits


@dataclass(frozen=True, eq=False)
class SlotRow:
    """A request in a slot, and one of its rows in a batch.

    `key` names the program. `temperature` is 0 for a request that takes the likeliest token. `sampled` are the tokens
    that replace a rule's own, by the rule's index. The last `num_shared_tokens` tokens of the prompt count as
    generated; `forced_tokens`, if any, are written after them. Records of the row have the request's `handle`, and so
    many alternatives. `limits` are those of its sampling.

    `row` is the row of the logits, and `offset` how many draft tokens it comes after.
    """

    slot: int
    key: str
    program: Program
    uses: Uses
    temperature: float
    seed: int = 0
    sampled: Mapping[int, Sequence[int]] = field(default_factory=dict)
    num_shared_tokens: int = 0
    forced_tokens: Sequence[int] = ()
    handle: int = 0
    alternatives: int = 0
    limits: SamplingLimits = NO_LIMITS
    row: int = 0
    offset: int = 0

    def at(self, row: int, offset: int = 0) -> SlotRow:
        """The request's row in a batch."""
        return replace(self, row=row, offset=offset)


@dataclass(frozen=True)
class ForcedRows:
    """The rows that write tokens sent with the request: of each its tokens, padded with NO_TOKEN, and the position of
    the first."""

    rows: Tensor  # [k] int64
    tokens: Tensor  # [k, L] int64
    start: Tensor  # [k] int64


@dataclass(frozen=True)
class Stage:
    """One action: the rule with this index, in these rows (None: all of them).

    `at` are its tokens as places in the flattened logits. `again`: a rule before it may have changed the distribution.
    `displaced`: instead of what the action does, the same probability is moved among other tokens; with `spread`, their
    logits move apart.
    """

    rule: int
    action: Action
    rows: Tensor | None  # [k] int64
    strength: Tensor  # [k, 4] float32
    at: Tensor  # [k, L] int64
    states: Tensor  # [k, L] int64
    greedy: Tensor | None  # those of the rows that take the likeliest token
    again: bool
    displaced: bool
    keep: int  # the k of a top-k
    spread: Tensor | None = None  # [k] float32 nats
    declared: str = ""  # the name of an action that is a file of its own
    parameters: Tensor | None = None  # [k, P] float32, of such an action


@dataclass(frozen=True)
class StatefulRows:
    """The rows of a turn whose rule of this index has the action of this name, which has a state."""

    rule: int
    declared: str
    rows: Tensor  # [k] int64
    parameters: Tensor  # [k, P] float32


@dataclass(frozen=True)
class MeasuredAt:
    """Rows [k] that are also measured at another temperature, and for which of their rules [k, R]."""

    temperature: float
    rows: Tensor  # [k] int64
    rules: Tensor  # [k, R] bool


@dataclass(frozen=True)
class Turn:
    """The rows that are the same distance beyond the committed tokens (None: all rows); a draft's follow its
    predecessor's."""

    offset: int
    rows: Tensor | None  # [k] int64
    first_cell: Tensor  # [k] int64, the first cell of the row's slot
    begin: Tensor  # [k] int64, where the row starts in the flattened logits
    program: Tensor  # [k] int64
    seed: Tensor  # [k] int64
    temperature: Tensor  # [k] float32
    reasoning_end: Tensor  # [k] int64
    rules: Rules  # [k, R, …]
    stateful: tuple[StatefulRows, ...] = ()

    def pick(self, values: Tensor, tokens: Tensor) -> Tensor:
        """The logits of tokens [k, …], from the [n, vocabulary] logits."""
        return values.view(-1).take(self.begin.view(-1, *[1] * (tokens.dim() - 1)) + tokens)

    def of(self, values: Tensor) -> Tensor:
        """The entries of this round's rows, of [n, …]."""
        return values if self.rows is None else values.index_select(0, self.rows)


@dataclass(frozen=True)
class Layout:
    """Index tensors are None where they would be empty; `rows`: the logits' rows that have a policy, None for all in
    order."""

    rows: Tensor | None  # [n] int64
    slot: Tensor  # [n] int64
    seed: Tensor  # [n] int64
    num_shared_tokens: Tensor | None  # [n] int64, the tokens of the prompt that count as generated
    by_chance: Tensor  # [n, R] bool, as in Rules
    instead: Tensor  # [n, R] bool, the rules that act only where certain tokens would be sampled
    uses: Uses
    regions: RegionMoves | None
    moves: Moves | None
    marks: Marks | None
    temperature: Tensor  # [n] float32, the request's; 1 for greedy ones
    tempered: Tensor | None  # rows with a temperature other than 1
    shadow: Tensor | None  # rows that must not change
    greedy: Tensor | None  # rows that take the likeliest token
    detailed: Tensor | None  # rows whose alternatives are recorded
    windowed: Tensor | None  # rows whose confidence is looked at
    forcing: Tensor | None  # rows with a rule that forces
    forced_tokens: ForcedRows | None
    alternatives: int
    stages: tuple[Stage, ...]
    shutting: tuple[Stage, ...]  # the forces that stand in place of other tokens
    turns: tuple[Turn, ...]
    measured_at: tuple[MeasuredAt, ...] = ()
    limited: LimitedRows | None = None  # rows whose rules depend on what can be sampled, which is not every token


def build_layout(
    entries: Sequence[SlotRow], total_rows: int, tables: Tables, keys: Sequence[str], depth: int, vocabulary: int
) -> Layout:
    """Gather what a batch needs, on the host, when its make-up changes.

    `keys` name the programs of the tables, in their order; `depth` is the number of cells of a slot.
    """
    device = tables.rules.region.device
    index_of = {key: index for index, key in enumerate(keys)}
    programs = [index_of[entry.key] for entry in entries]
    own = [entry.program for entry in entries]
    facts = [tables.facts[index] for index in programs]

    def tensor(values: Sequence[float], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    def where(chosen: Sequence[bool]) -> Tensor | None:
        return tensor([row for row, yes in enumerate(chosen) if yes]) if any(chosen) else None

    program = tensor(programs)
    shared = tables.rules.repeated(len(entries)) if len(tables.programs) == 1 else tables.rules.rows(program)
    rules = _with_sampled(shared, entries, own)
    whole = Turn(
        offset=0,
        rows=None,
        first_cell=tensor([entry.slot * depth for entry in entries]),
        begin=torch.arange(len(entries), device=device) * vocabulary,
        program=program,
        seed=tensor([entry.seed for entry in entries]),
        temperature=tensor([entry.temperature for entry in entries], torch.float32),
        reasoning_end=tensor([one.reasoning_end for one in own]),
        rules=rules,
        stateful=_stateful(own, device) if tables.uses.action_states else (),
    )
    return Layout(
        rows=None
        if [entry.row for entry in entries] == list(range(total_rows))
        else tensor([entry.row for entry in entries]),
        slot=tensor([entry.slot for entry in entries]),
        seed=whole.seed,
        num_shared_tokens=tensor([entry.num_shared_tokens for entry in entries])
        if any(entry.num_shared_tokens for entry in entries)
        else None,
        by_chance=rules.by_chance,
        instead=rules.instead & ~rules.by_chance,
        uses=tables.uses,
        regions=tables.regions,
        moves=tables.moves,
        marks=tables.marks,
        temperature=tensor([entry.temperature or 1.0 for entry in entries], torch.float32),
        tempered=where([entry.temperature not in (0.0, 1.0) for entry in entries]),
        shadow=where([one.shadow for one in own]),
        greedy=where([entry.temperature == 0 for entry in entries]),
        detailed=where([entry.alternatives > 0 for entry in entries]),
        windowed=where([one.windowed for one in facts]),
        forcing=where([one.forcing for one in facts]),
        forced_tokens=_forced_rows(entries, device),
        alternatives=max((entry.alternatives for entry in entries), default=0),
        stages=_stages(entries, [one.acting for one in facts], rules, vocabulary),
        shutting=_stages(entries, [one.shutting for one in facts], rules, vocabulary),
        turns=_turns(whole, entries, own),
        measured_at=_measured_at([one.temperatures for one in facts], rules),
        limited=_limited_rows(entries, device) if tables.uses.instead else None,
    )


def _limited_rows(entries: Sequence[SlotRow], device: torch.device) -> LimitedRows | None:
    chosen = [
        (row, entry.temperature, entry.limits)
        for row, entry in enumerate(entries)
        if entry.uses.instead and entry.temperature > 0 and entry.limits.any
    ]
    return LimitedRows.of(chosen, device) if chosen else None


def _measured_at(temperatures: Sequence[frozenset[float]], rules: Rules) -> tuple[MeasuredAt, ...]:
    found = []
    for temperature in sorted(frozenset[float]().union(*temperatures)):
        chosen = [row for row, own in enumerate(temperatures) if temperature in own]
        rows = torch.tensor(chosen, device=rules.region.device)
        wanted = rules.at_temperature.index_select(0, rows) == np.float32(temperature).item()
        found.append(MeasuredAt(temperature, rows, wanted))
    return tuple(found)


def _forced_rows(entries: Sequence[SlotRow], device: torch.device) -> ForcedRows | None:
    rows = [row for row, entry in enumerate(entries) if entry.forced_tokens]
    if not rows:
        return None
    texts = [torch.tensor(entries[row].forced_tokens, dtype=torch.int64) for row in rows]
    return ForcedRows(
        rows=torch.tensor(rows, device=device),
        tokens=torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=NO_TOKEN).to(device),
        start=torch.tensor([entries[row].num_shared_tokens for row in rows], device=device),
    )


def _stateful(programs: Sequence[Program], device: torch.device) -> tuple[StatefulRows, ...]:
    """Of rows with these programs, those whose rules have a state of their own."""
    groups: dict[tuple[int, str], list[int]] = {}
    for row, program in enumerate(programs):
        for index, rule in enumerate(program.rules):
            if rule.declared and ACTIONS[rule.declared].state_size:
                groups.setdefault((index, rule.declared), []).append(row)
    return tuple(
        StatefulRows(
            rule,
            declared,
            torch.tensor(rows, device=device),
            torch.tensor([programs[row].rules[rule].parameters for row in rows], device=device),
        )
        for (rule, declared), rows in groups.items()
    )


def _turns(whole: Turn, entries: Sequence[SlotRow], own: Sequence[Program]) -> tuple[Turn, ...]:
    offsets = sorted({entry.offset for entry in entries})
    if offsets == [0]:
        return (whole,)
    turns = []
    for offset in offsets:
        device = whole.begin.device
        chosen = [row for row, entry in enumerate(entries) if entry.offset == offset]
        rows = torch.tensor(chosen, device=device)
        stateful = _stateful([own[row] for row in chosen], device) if whole.stateful else ()
        parts = {one.name: getattr(whole, one.name) for one in fields(Turn)}
        taken = {name: part[rows] for name, part in parts.items() if isinstance(part, Tensor)}
        turns.append(replace(whole, offset=offset, rows=rows, rules=whole.rules.rows(rows), stateful=stateful, **taken))
    return tuple(turns)


def _with_sampled(rules: Rules, entries: Sequence[SlotRow], own: Sequence[Program]) -> Rules:
    """The rules with the tokens and texts that were sampled for each request."""
    if not any(entry.sampled for entry in entries):
        return rules
    target = [(row, rule, tokens) for row, entry in enumerate(entries) for rule, tokens in entry.sampled.items()]
    sets = [one for one in target if own[one[0]].rules[one[1]].action in ON_SETS]
    wide = max(rules.target_tokens.shape[2], padded(max((len(tokens) for _, _, tokens in sets), default=0)))
    long = max([rules.text.shape[2], *(len(tokens) for _, _, tokens in target)])
    tokens_of = _widened(rules.target_tokens, wide, 0)
    states_of = _widened(rules.target_states, wide, NEVER)
    text, length = _widened(rules.text, long, 0), rules.text_length.clone()
    for row, rule, tokens in target:
        drawn = torch.tensor(tokens, dtype=torch.int64, device=text.device)
        if own[row].rules[rule].action == Action.FORCE:
            text[row, rule, : len(tokens)], length[row, rule] = drawn, len(tokens)
        else:
            tokens_of[row, rule, : len(tokens)], states_of[row, rule, : len(tokens)] = drawn, ANY_STATE
    return replace(rules, target_tokens=tokens_of, target_states=states_of, text=text, text_length=length)


def _widened(values: Tensor, width: int, fill: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, width - values.shape[2]), value=fill)


def _stage_order(acting: Acting) -> tuple[int, int, str, bool, int]:
    return acting.rule, acting.action, acting.declared, acting.again, acting.keep


def _stages(
    entries: Sequence[SlotRow], acting: Sequence[tuple[Acting, ...]], rules: Rules, vocabulary: int
) -> tuple[Stage, ...]:
    """The actions of all rows, rule by rule."""
    groups: dict[Acting, list[int]] = {}
    for row, actions in enumerate(acting):
        for action in actions:
            groups.setdefault(action, []).append(row)
    stages = []
    for action, rows in sorted(
        groups.items(),
        key=lambda group: _stage_order(group[0]),
    ):
        chosen = torch.tensor(rows, device=rules.region.device)
        greedy = [row for row in rows if entries[row].temperature == 0]
        whole = len(rows) == len(entries)
        tokens, states, strength = (
            one[:, action.rule] if whole else one[chosen, action.rule]
            for one in (rules.target_tokens, rules.target_states, rules.strength)
        )
        stages.append(
            Stage(
                rule=action.rule,
                action=action.action,
                rows=None if whole else chosen,
                strength=strength,
                at=(chosen * vocabulary)[:, None] + tokens,
                states=states,
                greedy=torch.tensor(greedy, device=chosen.device) if greedy else None,
                again=action.again,
                displaced=action.displaced,
                keep=action.keep,
                spread=rules.spread[chosen, action.rule] if action.spread else None,
                declared=action.declared,
                parameters=torch.tensor(
                    [entries[row].program.rules[action.rule].parameters for row in rows], device=chosen.device
                )
                if action.declared
                else None,
            )
        )
    return tuple(stages)
