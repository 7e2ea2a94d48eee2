"""The step: measure every row, decide which rules fire, change the logits, and write down what was done.

Everything is vectorised over rows × rules and stays on the device. A row gets the same bits whatever else is in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .program import Action, Program, RegionCode
from .signals import Signals, measure, total_variation, weight_at
from .slots import Slots
from .tables import SET_CHUNK, Moves, Rules, belongs

LEFT_ALONE = 2
IN_REASONING = 1
RULES_SHIFT = 8
HIGHEST_EXPONENT = 60.0  # a bias that lifts a token this far has taken all the probability: e^60 is all but e^61


@dataclass(frozen=True)
class Layout:
    """What stays the same until the batch changes. Index tensors into its rows are None where they would be empty.

    `rows`: the batch's rows that have a policy, or None when all have, in order.
    """

    rows: Tensor | None  # [n] int64
    slot: Tensor  # [n] int64
    program: Tensor  # [n] int64
    rules: Rules  # gathered, [n, R, …]
    moves: Moves | None
    reasoning_start: Tensor  # [n] int64
    reasoning_end: Tensor  # [n] int64
    temperature: Tensor  # [n] float32, the request's; 1 for greedy ones
    tempered: bool  # any temperature other than 1
    shadow: Tensor | None  # rows that must not change
    greedy: Tensor | None  # rows that take the likeliest token
    heated: Tensor | None  # rows with a temperature rule
    detailed: Tensor | None  # rows whose alternatives are recorded
    alternatives: int


@dataclass(frozen=True)
class Rows:
    """One step: for each row of the layout, how many tokens are committed and the last of them (any id at position 0).

    `draft_offset` is the row's place among the draft tokens of its request, None without speculative decoding.
    """

    layout: Layout
    position: Tensor  # [n] int64
    last_token: Tensor  # [n] int64
    draft_offset: Tensor | None = None


@dataclass(frozen=True)
class Record:
    """What the step saw and did. `flags`: the bits IN_REASONING and LEFT_ALONE, and from RULES_SHIFT on one bit per rule fired.

    Rules are counted in the program's order, the order of application.
    """

    position: Tensor  # [n] int64
    flags: Tensor  # [n] int64
    numbers: Tensor  # [n, 4 + R] float32: entropy, varentropy, top probability, connector mass, effect per rule
    alternatives: Tensor | None  # [detailed, k] int64
    probabilities: Tensor | None  # [detailed, k] float32


def build_layout(
    rows: list[int],
    total_rows: int,
    slots: list[int],
    programs: list[int],
    temperatures: list[float],
    details: list[bool],
    table: list[Program],
    rules: Rules,
    moves: Moves | None,
    alternatives: int,
) -> Layout:
    """Gather what a batch needs, on the host, when its make-up changes. Lists are per row with a policy."""
    device = rules.action.device

    def tensor(values: list[int], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=device)

    def where(chosen: list[bool]) -> Tensor | None:
        return tensor([row for row, yes in enumerate(chosen) if yes]) if any(chosen) else None

    own = [table[program] for program in programs]
    program = tensor(programs)
    scale = [temperature or 1.0 for temperature in temperatures]
    return Layout(
        rows=None if rows == list(range(total_rows)) else tensor(rows),
        slot=tensor(slots),
        program=program,
        rules=rules.rows(program),
        moves=moves if any(program.word_free for program in own) else None,
        reasoning_start=tensor([program.reasoning_start for program in own]),
        reasoning_end=tensor([program.reasoning_end for program in own]),
        temperature=torch.tensor(scale, dtype=torch.float32, device=device),
        tempered=any(temperature != 1.0 for temperature in scale),
        shadow=where([program.shadow for program in own]),
        greedy=where([temperature == 0 for temperature in temperatures]),
        heated=where([any(rule.action == Action.TEMPERATURE for rule in program.rules) for program in own]),
        detailed=where(details),
        alternatives=alternatives,
    )


def step(slots: Slots, rows: Rows, logits: Tensor) -> Record:
    """Apply each row's policy to the [batch, vocabulary] float32 logits, in place, and advance the slots."""
    layout = rows.layout
    _commit(slots, rows)
    values = logits if layout.rows is None else logits.index_select(0, layout.rows)
    signals = measure(values)
    alternatives, probabilities = _likeliest(values, signals, layout)
    word_state, in_reasoning = slots.word_state[layout.slot], slots.in_reasoning[layout.slot]
    mass = _connector_mass(values, signals, layout.rules, word_state)
    fired = _decide(slots, rows, signals, mass, in_reasoning)

    unchanged = values.index_select(0, layout.shadow) if layout.shadow is not None else None
    effects, left_alone = _act(values, signals, layout, word_state, fired)
    if unchanged is not None and layout.shadow is not None:
        values.index_copy_(0, layout.shadow, unchanged)
    if layout.rows is not None:
        logits.index_copy_(0, layout.rows, values)

    slots.position[layout.slot] = rows.position
    slots.pending[layout.slot, : fired.shape[1]] = fired
    bits = (fired.long() << torch.arange(RULES_SHIFT, RULES_SHIFT + fired.shape[1], device=fired.device)).sum(dim=-1)
    shown = mass.amax(dim=-1) if mass.shape[1] else torch.zeros_like(signals.entropy)
    heads = torch.stack((signals.entropy, signals.varentropy, signals.top_probability, shown), dim=1)
    return Record(
        position=rows.position,
        flags=bits + in_reasoning * IN_REASONING + left_alone * LEFT_ALONE,
        numbers=torch.cat((heads, effects), dim=1),
        alternatives=alternatives,
        probabilities=probabilities,
    )


def _commit(slots: Slots, rows: Rows) -> None:
    """Advance the state of each slot by the token that was committed since its last evaluation, if one was."""
    layout, at = rows.layout, rows.layout.slot
    committed = rows.position > slots.position[at]
    slots.fired[at] += slots.pending[at] & committed[:, None]
    token = torch.where(committed, rows.last_token, 0)
    inside = slots.in_reasoning[at]
    inside = (inside | (token == layout.reasoning_start)) & (token != layout.reasoning_end)
    slots.in_reasoning[at] = torch.where(committed, inside, slots.in_reasoning[at])
    if layout.moves is not None:
        state = slots.word_state[at]
        after = layout.moves.follow(layout.program, state, token)
        slots.word_state[at] = torch.where(committed, after, state)


def _likeliest(values: Tensor, signals: Signals, layout: Layout) -> tuple[Tensor | None, Tensor | None]:
    if layout.detailed is None:
        return None, None
    chosen = values.index_select(0, layout.detailed)
    top, tokens = chosen.topk(min(layout.alternatives, values.shape[1]), dim=-1)
    peak, total = signals.peak[layout.detailed, None], signals.total[layout.detailed, None]
    return tokens, (top - peak).exp() / total


def _connector_mass(values: Tensor, signals: Signals, rules: Rules, word_state: Tensor) -> Tensor:
    """The probability of each rule's connectors at temperature 1, [n, R]."""
    count, width = rules.mass_tokens.shape[1:]
    if not width:
        return values.new_zeros(values.shape[0], count)
    counts = belongs(rules.mass_states, word_state)
    chosen = values.gather(1, rules.mass_tokens.flatten(1)).view_as(counts)
    weight = torch.where(counts, (chosen - signals.peak[:, None, None]).exp(), 0.0)
    return _set_sum(weight.flatten(0, 1)).view(-1, count) / signals.total[:, None]


def _set_sum(values: Tensor) -> Tensor:
    """The sum over the last dimension, SET_CHUNK by SET_CHUNK: padding to a longer set adds exact zeros at the end."""
    total = values.new_zeros(values.shape[0])
    for begin in range(0, values.shape[1], SET_CHUNK):
        total = total + values[:, begin : begin + SET_CHUNK].contiguous().sum(dim=-1)
    return total


def _decide(slots: Slots, rows: Rows, signals: Signals, mass: Tensor, in_reasoning: Tensor) -> Tensor:
    """Which rules fire, [n, R] bool."""
    rules, at = rows.layout.rules, rows.layout.slot
    seen = torch.stack((signals.entropy, signals.varentropy, signals.top_probability), dim=-1)[:, None, :]
    within = ((seen > rules.low[..., :3]) & (seen < rules.high)).all(dim=-1) & (mass > rules.low[..., 3])
    position = rows.position[:, None]
    placed = (position >= rules.first_position) & (position <= rules.last_position)
    wanted = torch.where(in_reasoning[:, None], RegionCode.REASONING.value, RegionCode.ANSWER.value)
    regional = (rules.region == RegionCode.ANY.value) | (rules.region == wanted)
    left = slots.fired[at, : rules.at_most.shape[1]] < rules.at_most
    return within & placed & regional & left


def _act(values: Tensor, signals: Signals, layout: Layout, word_state: Tensor, fired: Tensor) -> tuple[Tensor, Tensor]:
    """Change the logits rule by rule; the effect of each [n, R] float32, and where masks would have left no token [n] bool.

    A rule's effect is the total variation distance between the distributions that would be sampled before and after it, at the
    request's temperature. For one bias b on a set of probability q it is |q' - q|, with q' = q e^b / (1 - q + q e^b); for a
    request that takes the likeliest token it is 1 when that token changes.
    """
    rules, temperature = layout.rules, layout.temperature
    count = fired.shape[1]
    effects = values.new_zeros(values.shape[0], count)
    left_alone = torch.zeros_like(signals.possible, dtype=torch.bool)
    total = weight_at(values, signals.peak, temperature) if layout.tempered else signals.total
    possible = signals.possible
    likeliest = values[layout.greedy].argmax(dim=-1) if layout.greedy is not None else None
    for rule in range(count):
        action, strength = rules.action[:, rule], rules.strength[:, rule]
        heats = fired[:, rule] & (action == Action.TEMPERATURE.value)
        if rules.target_tokens.shape[2]:
            masks = action == Action.MASK.value
            counts = belongs(rules.target_states[:, rule], word_state)
            counts &= (fired[:, rule] & (masks | (action == Action.BIAS.value)))[:, None]
            tokens = rules.target_tokens[:, rule]
            chosen = values.gather(1, tokens)
            removed = torch.where(masks, (counts & (chosen > -torch.inf)).sum(dim=-1), 0)
            empties = (removed > 0) & (removed >= possible)
            left_alone |= empties
            counts &= ~empties[:, None]
            possible = torch.where(empties, possible, possible - removed)
            change = torch.where(masks, -torch.inf, strength)
            depth = (chosen - signals.peak[:, None]) / temperature[:, None]
            before = _set_sum(torch.where(counts, depth.clamp(max=HIGHEST_EXPONENT).exp(), 0.0))
            after = _set_sum(torch.where(counts, (depth + (change / temperature)[:, None]).clamp(max=HIGHEST_EXPONENT).exp(), 0.0))
            new_total = (total - before + after).clamp_(min=torch.finfo(torch.float32).tiny)
            effects[:, rule] = ((after / new_total).clamp_(max=1.0) - (before / total).clamp_(max=1.0)).abs_()
            total = new_total
            values.scatter_add_(1, tokens, torch.where(counts, change[:, None], 0.0))
        if layout.heated is not None:
            chosen_rows = layout.heated
            hot = torch.where(heats[chosen_rows], strength[chosen_rows], 1.0)
            part = values.index_select(0, chosen_rows)
            scale = temperature[chosen_rows]
            effects[chosen_rows, rule] += total_variation(part, scale, scale * hot)
            values.index_copy_(0, chosen_rows, part.div_(hot[:, None]))
        if likeliest is not None and layout.greedy is not None:
            now = values[layout.greedy].argmax(dim=-1)
            effects[layout.greedy, rule] = (now != likeliest).float()
            likeliest = now
    return effects, left_alone
