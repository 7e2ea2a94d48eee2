"""The states of actions that are files of their own, worked out along a text as the worker's step advances them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from forkpoint_policies.actions.definition import MAX_STATE, ActionFile, Seen
from forkpoint_policies.actions.discovery import ACTIONS
from forkpoint_policies.compile.program import Program

from .state_handover import Past


class StatefulActions:
    """The actions with a state of one program."""

    def __init__(self, program: Program) -> None:
        self.first: NDArray[np.float32] = np.zeros((len(program.rules), MAX_STATE), np.float32)
        """The states [R, MAX_STATE] before the first token."""
        self._rules = [
            (index, ACTIONS[rule.declared], torch.tensor([rule.parameters], dtype=torch.float32))
            for index, rule in enumerate(program.rules)
            if rule.declared and ACTIONS[rule.declared].state_size
        ]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def after(self, states: NDArray[np.float32], past: Past, start: int, end: int) -> NDArray[np.float32]:
        """The states [R, MAX_STATE] after the tokens from `start` to before `end`, from those before them.

        Only tokens with a record count.
        """
        positions = [position for position in range(start, end) if past.known[position]]
        after = states.copy()
        for rule, action, parameters in self._rules:
            after[rule, : action.state_size] = _followed(
                action, after[rule, : action.state_size], parameters, past, rule, positions
            )
        return after


def _followed(
    action: ActionFile,
    state: NDArray[np.float32],
    parameters: torch.Tensor,
    past: Past,
    rule: int,
    positions: Sequence[int],
) -> NDArray[np.float32]:
    assert action.advance is not None
    entropy, fired = torch.from_numpy(past.entropy), torch.from_numpy(past.fired[:, rule].copy())
    row = torch.from_numpy(state.copy())[None]
    for position in positions:
        here = slice(position, position + 1)
        row = action.advance(row, Seen(entropy[here], fired[here], torch.tensor([position]), parameters))
    return np.asarray(row[0].numpy(), np.float32)
