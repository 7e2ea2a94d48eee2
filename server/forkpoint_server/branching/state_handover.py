"""The records that give a branch the state of the path it continues."""

from __future__ import annotations

import numpy as np

from forkpoint_policies.kernel.state_handover import Past
from forkpoint_server.requests.tree import Node


def past_of(node: Node, position: int, length: int, rules: int) -> Past | None:
    """The records of the first `length` tokens of a branch that leaves a node at a position, for so many `rules`.

    Positions up to and including this one must have a record; None where one was lost. The tokens with which the branch
    starts have none, since no request evaluated them.
    """
    path = node.path()
    known = np.zeros(length, np.bool_)
    past = Past(
        np.zeros(length, np.float32), np.zeros((length, rules), np.bool_), np.zeros(length, np.float32),
        np.zeros((length, rules), np.float32), np.zeros((length, rules), np.float32), known,
    )  # fmt: skip
    for one, until in zip(path, [*(following.position for following in path[1:]), position], strict=True):
        profile = one.trace.profile()
        rows = profile.position <= until
        if int(rows.sum()) != min(until + 1, one.length) - one.first_position:
            return None
        positions, own = profile.position[rows], min(profile.fired.shape[1], rules)
        known[positions] = True
        past.entropy[positions], past.confidence[positions] = profile.entropy[rows], profile.confidence[rows]
        past.fired[positions, :own] = profile.fired[rows][:, :own]
        past.held[positions, :own] = profile.held[rows][:, :own]
        past.placed[positions, :own] = profile.placed[rows][:, :own]
    last = np.maximum.accumulate(np.where(known, np.arange(length), 0))
    past.confidence[:] = past.confidence[last]
    return past
