"""Actions that are files of their own: what they return is checked, and its effect measured."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.actions.definition import Rows
from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.kernel.batch import Stage
from forkpoint_policies.kernel.signals import stable_sum

from .work import Work, entropy_at, of_stage


def apply_declared(work: Work, stage: Stage, rows: Tensor) -> None:
    """Give the rows in which the rule fires the logits that its action returns. What is -inf stays so, and a row that
    would have no token left stays as it was."""
    action, decision = ACTIONS[stage.declared], work.decision
    assert stage.parameters is not None
    before, temperature = work.values.index_select(0, rows), work.layout.temperature[rows]
    if decision.action_states is None:
        state = before.new_zeros(len(rows), 0)
    else:
        state = decision.action_states[rows, stage.rule, : action.state_size]
    found = action.act(
        Rows(
            logits=before.clone(),  # which the action may change in place
            temperature=temperature,
            entropy=entropy_at(work, stage, rows),
            position=decision.position[rows],
            parameters=of_stage(stage, stage.parameters, rows),
            state=state,
        )
    )
    possible = before > -torch.inf
    found = torch.where(possible, found, -torch.inf)
    changes = decision.fired[rows, stage.rule] & (found > -torch.inf).any(dim=-1)
    after = torch.where(changes[:, None], found, before)
    effect = _distance(before, after, temperature[:, None])
    work.effects[rows, stage.rule] = torch.where(changes, effect, 0.0)
    work.values.index_copy_(0, rows, after)


def _distance(before: Tensor, after: Tensor, temperature: Tensor) -> Tensor:
    """The total variation distance of each row's distributions; NaN for a row of -inf only."""
    change = torch.softmax(after / temperature, dim=-1) - torch.softmax(before / temperature, dim=-1)
    return stable_sum(change.abs()) / 2
