"""What the file of an action declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from forkpoint_policies.spec.fields import Match, Strict

if TYPE_CHECKING:  # who writes policies needs no torch
    from torch import Tensor

MAX_STATE = 4
"""Numbers that an action stores of a request, for each rule."""


class Place(IntEnum):
    """When an action is applied: those of the same place in the order of the policy's rules."""

    MASK = 1
    BIAS = 2
    TEMPERATURE = 3
    TRUNCATION = 4


class Fields(Strict):
    """What a user writes for an action: the base class of its fields."""


@dataclass(frozen=True)
class ServedNumbers:
    """What an action may depend on of the served model."""

    fork_threshold_nats: float
    vocabulary_size: int


@dataclass(frozen=True)
class Rows:
    """The rows of a batch that an action works on.

    `logits` are as the rules before left them, -inf for tokens that must not be sampled. `temperature` is the
    request's, 1 for one that takes the likeliest token. `entropy` is the model's, before any rule acted; for a placebo
    at random positions, one of the request's earlier ones. `position` counts the tokens before. `parameters` are what
    the rule compiled to, and `state` what the tokens before left, 0 at first.
    """

    logits: Tensor  # [k, vocabulary] float32
    temperature: Tensor  # [k] float32
    entropy: Tensor  # [k] float32 nats
    position: Tensor  # [k] int64
    parameters: Tensor  # [k, P] float32
    state: Tensor  # [k, state_size] float32


@dataclass(frozen=True)
class Seen:
    """What a row's state advances by, once its token is committed."""

    entropy: Tensor  # [k] float32 nats, the model's
    fired: Tensor  # [k] bool, whether the rule acted
    position: Tensor  # [k] int64
    parameters: Tensor  # [k, P] float32


@dataclass(frozen=True)
class ActionFile:
    """An action, which has its file's name in `do`.

    `compile` turns the fields into the parameters of a rule. `act` returns the logits [k, vocabulary] of some rows. A
    row must get the same bits in any batch, so sum with `kernel.signals.stable_sum`. Only the rows in which the rule
    fires take them; what is -inf stays so, and a row that would have no token left stays as it was.
    Where there is a state, `advance` returns it [k, state_size] after one more token. Both run on the device of the
    logits and must not wait for it.

    `matches` are the placebos that it can have beyond `positions` and `dose`, the fairest first. `examples` are values
    that a user may write: tests run policies with them.
    """

    fields: type[Fields]
    place: Place
    compile: Callable[[Any, ServedNumbers], Sequence[float]]
    act: Callable[[Rows], Tensor]
    examples: tuple[Mapping[str, Any], ...]
    matches: tuple[Match, ...] = ("probability",)
    state_size: int = 0
    advance: Callable[[Tensor, Seen], Tensor] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.state_size <= MAX_STATE:
            raise ValueError(f"state_size must be from 0 to {MAX_STATE}, not {self.state_size}")
        if bool(self.state_size) != (self.advance is not None):
            raise ValueError("an action with a state needs `advance`, and one without has none")
