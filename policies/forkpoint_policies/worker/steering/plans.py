"""With which change each generated token is read: one plan for each request and kind of change, by position.

By position, so that what is computed again, after a preemption say, is computed as it was.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from forkpoint_policies.compile.program import OF_ENTROPY, Curve
from forkpoint_policies.kernel.native.columns import R_ENTROPY, R_FLAGS, R_POSITION
from forkpoint_policies.kernel.numerics import evaluate
from forkpoint_policies.kernel.record_flags import RULES_SHIFT
from forkpoint_policies.kernel.state_handover import Decisions
from forkpoint_policies.spec import MAX_RULES

NO_DECISIONS = Decisions()


@dataclass(frozen=True)
class PlannedRule:
    """What a rule that fires changes: so many tokens, from the one drawn there or with `from_here` from the one before,
    are read with a row of the tables, as many times as its scale says at the token's position and the entropy where it
    fired. For a layer that is run again, the row is its number."""

    row: int
    scale: Curve
    num_tokens: int
    from_here: bool = False


@dataclass(frozen=True)
class _Removed:
    """The plan of a request that was removed: rules that fired and entropies, by position."""

    fired: Tensor  # [length] int32
    entropy: Tensor | None  # [length] float32 nats


class Plans:
    """The plans of `slots` requests, of `length` positions each.

    A token is read with one row. Where several rules want it, the latest decision counts, and of those at one
    position the last rule's: rules `from_here` are the first ones.
    """

    def __init__(self, slots: int, length: int, device: torch.device) -> None:
        self._slots, self._length = slots, length
        self._device = device
        # one more slot takes what is written of rows that change nothing
        self._fired = torch.zeros(slots + 1, length, dtype=torch.int32, device=device)  # rules, a bit each
        self._entropy: Tensor | None = None  # [slots + 1, length] nats, where rules fired; made when a scale needs it
        self._row = torch.zeros(slots + 1, MAX_RULES + 1, dtype=torch.int64, device=device)  # by 1 + the rule
        self._scale = torch.zeros(slots + 1, MAX_RULES + 1, 4, device=device)
        self._num_tokens = torch.zeros(slots + 1, MAX_RULES + 1, dtype=torch.int64, device=device)
        self._from_here = torch.zeros(slots + 1, MAX_RULES + 1, dtype=torch.int64, device=device)  # 1 or 0
        self._shared = torch.zeros(slots + 1, dtype=torch.int64, device=device)  # of the prompt
        self.has_plan_at = np.zeros(slots + 1, np.bool_)
        """[slots + 1], on the host: whether a slot's request has a plan."""
        self._handles: dict[int, int] = {}  # by slot
        self._rules: dict[int, Mapping[int, PlannedRule]] = {}  # by slot
        self._removed: OrderedDict[int, _Removed] = OrderedDict()  # by handle

    @property
    def in_use(self) -> bool:
        """Whether any request has a plan."""
        return bool(self._rules)

    @property
    def rows(self) -> frozenset[int]:
        """The rows of the tables that the requests use."""
        return frozenset(rule.row for rules in self._rules.values() for rule in rules.values())

    def add(
        self, slot: int, handle: int, num_shared_tokens: int, rules: Mapping[int, PlannedRule],
        decisions: Decisions = NO_DECISIONS,
    ) -> None:  # fmt: skip
        """Put a request into an empty slot, with its rules by their index in the program.

        The last `num_shared_tokens` of its prompt count as generated, and `decisions` are those about them. A request
        that was preempted gets its plan back.
        """
        self._handles[slot], self._rules[slot] = handle, rules
        self.has_plan_at[slot] = True
        self._shared[slot] = num_shared_tokens
        for index, rule in rules.items():
            curve = rule.scale
            self._scale[slot, index + 1] = torch.tensor((float(curve.shape), curve.a, curve.b, curve.c))
            self._row[slot, index + 1], self._num_tokens[slot, index + 1] = rule.row, rule.num_tokens
            self._from_here[slot, index + 1] = int(rule.from_here)
        if self._entropy is None and any(rule.scale.shape in OF_ENTROPY for rule in rules.values()):
            self._entropy = torch.zeros(self._slots + 1, self._length, device=self._device)
        saved = self._removed.pop(handle, None)
        if saved is None:
            self._fired[slot].zero_()
            self._take_over(slot, decisions)
            return
        self._fired[slot] = saved.fired
        if self._entropy is not None and saved.entropy is not None:
            self._entropy[slot] = saved.entropy

    def _take_over(self, slot: int, decisions: Decisions) -> None:
        at = torch.from_numpy(np.frombuffer(decisions.positions, np.int32).astype(np.int64)).to(self._device)
        self._fired[slot, at] = torch.from_numpy(np.frombuffer(decisions.fired, np.int32).copy()).to(self._device)
        if self._entropy is not None:
            entropy = torch.from_numpy(np.frombuffer(decisions.entropy, np.float32).copy())
            self._entropy[slot, at] = entropy.to(self._device)

    def remove(self, slot: int) -> None:
        """Free a slot, if it has a plan. The plan is stored for a while: the request may be resumed."""
        if slot not in self._rules:
            return
        del self._rules[slot]
        self.has_plan_at[slot] = False
        entropy = None if self._entropy is None else self._entropy[slot].clone()
        self._removed[self._handles.pop(slot)] = _Removed(self._fired[slot].clone(), entropy)
        while len(self._removed) > self._slots:
            self._removed.popitem(last=False)
        for values in (self._row, self._scale, self._num_tokens, self._from_here, self._shared):
            values[slot].zero_()

    def decide(self, slots: Tensor, record: Tensor) -> None:
        """Plan what the rules of a step's rows decided: [n] slots (negative: none), and the rows of its record.

        A position may be decided several times: while a prompt, or a resumed request, is computed in pieces, each piece
        has a row. The last one is at the position's own distribution, and counts.
        """
        position = record[:, R_POSITION].long()
        is_planned = (slots >= 0) & (position >= 0) & (position < self._length)
        slot = torch.where(is_planned, slots, self._slots).long()
        position = position.clamp(0, self._length - 1)
        self._fired[slot, position] = record[:, R_FLAGS] >> RULES_SHIFT
        if self._entropy is not None:
            self._entropy[slot, position] = record.view(torch.float32)[:, R_ENTROPY]

    def rows_of(self, slots: Tensor, after_prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Of tokens, by their slots (negative: none) and how far after the prompt's end they are (negative: in it): the
        row of the tables, and the factor."""
        slot = torch.where(slots < 0, self._slots, slots).long()
        generated = after_prompt.long() + self._shared[slot]
        slot = torch.where((generated < 0) | (generated >= self._length), self._slots, slot)
        rule, decided_at = self._rule_at(slot, generated.clamp(0, self._length - 1))
        entropy = torch.ones((), device=rule.device)
        if self._entropy is not None:
            entropy = self._entropy[slot, decided_at]
        return self._row[slot, rule], evaluate(self._scale[slot, rule], generated, entropy)

    def _rule_at(self, slot: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """1 + the rule by which each token is read, 0 for none, and where it fired: of [n] slots and
        positions."""
        every = [rule for rules in self._rules.values() for rule in rules.values()]
        longest = max((rule.num_tokens for rule in every), default=1)
        # from here: a token is read so by what was decided one position after it
        ago = torch.arange(-int(any(rule.from_here for rule in every)), longest, device=slot.device)
        decided_at = position[:, None] - ago
        known = (decided_at >= 0) & (decided_at < self._length)
        fired = torch.where(known, self._fired[slot[:, None], decided_at.clamp(0, self._length - 1)], 0)
        found, since = torch.zeros_like(position), torch.full_like(position, longest)
        for rule in sorted({index for rules in self._rules.values() for index in rules}):
            read_after = ago + self._from_here[slot, rule + 1][:, None]  # how many tokens after the first
            reaches = (fired >> rule & 1).bool() & (read_after >= 0)
            reaches &= read_after < self._num_tokens[slot, rule + 1][:, None]
            latest = torch.where(reaches, ago, longest).amin(dim=1)
            counts = (latest <= since) & (latest < longest)  # of one position, the last rule
            found, since = torch.where(counts, rule + 1, found), torch.where(counts, latest, since)
        return found, (position - since).clamp(0, self._length - 1)
