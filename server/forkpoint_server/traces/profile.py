"""What was measured at a choice's tokens, as arrays, read from its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.worker.records import (
    DRAFT,
    FORCED,
    IN_REASONING,
    LEFT_ALONE,
    REFUSED,
    RULES_SHIFT,
    RecordRows,
    num_columns,
    row_type,
)

from .hidden_signals import HiddenSignals
from .likeliest import Alternatives
from .replaced_tokens import ReplacedTokens


@dataclass(frozen=True)
class Profile:
    """What was measured at a choice's tokens, [n] each; `fired` and `effect` are [n, rules], in the program's order."""

    position: NDArray[np.int64]
    confidence: NDArray[np.float32]  # nats; zeros where no policy of the batch branches
    held: NDArray[np.float32]  # [n, rules], as in kernel.state.Chances
    placed: NDArray[np.float32]  # [n, rules]
    entropy: NDArray[np.float32]
    top_probability: NDArray[np.float32]
    in_reasoning: NDArray[np.bool_]
    left_alone: NDArray[np.bool_]
    forced: NDArray[np.bool_]
    refused: NDArray[np.bool_]
    fired: NDArray[np.bool_]
    effect: NDArray[np.float32]
    hidden: NDArray[np.float32]  # [n, NUM_HIDDEN], NaN where not known
    alternatives: dict[int, Alternatives]


_NO_ROWS = RecordRows(np.zeros((0, num_columns(row_type(0))), np.int32), 0)
_PER_RULE = ("effect", "held", "placed")
_OF_BRANCHES = ("confidence", "held", "placed")


def read_profile(
    parts: Sequence[RecordRows],
    tokens: Sequence[int],
    first_position: int,
    hidden: HiddenSignals,
    replaced: ReplacedTokens | None,
    alternatives: dict[int, Alternatives],
) -> Profile:
    """The records of a choice's `tokens`, the first of them at `first_position`. A position's last record counts.

    `parts` are its records in order of arrival, of one width each.
    """
    rules = max((part.rules for part in parts), default=0)

    def column(name: str) -> NDArray[Any]:
        found = [_column(part, name, rules) for part in parts or [_NO_ROWS]]
        return found[0] if len(found) == 1 else np.concatenate(found)

    position, flags = column("position"), column("flags")
    own = _own(position, column("last_token"), flags, tokens, first_position)
    last: slice | NDArray[np.intp] = slice(None)
    if not own.all() or not (position[1:] > position[:-1]).all():
        places = np.flatnonzero(own)
        position, first = np.unique(position[places][::-1], return_index=True)
        last = places[::-1][first]
    flags = flags[last]
    fired = (flags[:, None] >> np.arange(RULES_SHIFT, RULES_SHIFT + rules) & 1).astype(np.bool_)
    if replaced is not None:
        fired = replaced.confirm(fired, tokens, position.astype(np.int64) - first_position)
    return Profile(
        position=position.astype(np.int64),
        confidence=column("confidence")[last],
        held=column("held")[last],
        placed=column("placed")[last],
        entropy=column("entropy")[last],
        top_probability=column("top_probability")[last],
        in_reasoning=(flags & IN_REASONING).astype(np.bool_),
        left_alone=(flags & LEFT_ALONE).astype(np.bool_),
        forced=(flags & FORCED).astype(np.bool_),
        refused=(flags & REFUSED).astype(np.bool_),
        fired=fired,
        effect=column("effect")[last],
        hidden=hidden.at(position.astype(np.int64) - first_position),
        alternatives=alternatives,
    )


def _own(
    position: NDArray[np.int32],
    last_token: NDArray[np.int32],
    flags: NDArray[np.int32],
    tokens: Sequence[int],
    first_position: int,
) -> NDArray[np.bool_]:
    """Which records, [n] in order of arrival, describe the choice's tokens and follow no rejected draft."""
    own: NDArray[np.bool_] = (position >= first_position) & (position < first_position + len(tokens))
    drafts = (flags & DRAFT).astype(np.bool_)
    if not drafts.any():
        return own
    committed, before = np.array(tokens), position - first_position - 1
    known = drafts & (before >= 0) & (before < len(committed))
    rejected = drafts.copy()
    rejected[known] = committed[before[known]] != last_token[known]
    first = np.maximum.accumulate(np.where(drafts, 0, np.arange(len(drafts))))  # of the step
    so_far = rejected.cumsum()
    own &= so_far == so_far[first]
    return own


def _column(part: RecordRows, name: str, rules: int) -> NDArray[Any]:
    """A column, padded to so many rules; zeros if it is one of branches and no policy of the batch branches."""
    if name in _OF_BRANCHES and not part.branches:
        return np.zeros((len(part.values), rules) if name in _PER_RULE else len(part.values), np.float32)
    values = part.column(name)
    if name not in _PER_RULE or values.shape[1] == rules:
        return values
    return np.pad(values, ((0, 0), (0, rules - values.shape[1])))
