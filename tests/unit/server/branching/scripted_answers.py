"""Sampled answers that a test chooses: how long each reasons, what it says, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import Policy, parse_policy
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.branching.seeds import derived_seed
from tests.unit.policies.vocabularies import END, END_THINK, encode

from .stub_engine import A, StubTree

Said = tuple[int, str | None] | tuple[int, str | None, int]
"""The tokens of the reasoning, the answer (None for one without a number), and further tokens after it."""


def sampling(
    action: dict[str, Any] | Policy, answers: Sequence[Said], *, seed: int = 5, placebo: bool = False,
    max_running: int = 100, certainty: Mapping[int, float] = {},
) -> StubTree:  # fmt: skip
    """A tree of `sample` whose answers are these, in the order in which they are sampled."""
    policy = action if isinstance(action, Policy) else parse_policy({"rules": [{"do": {"sample": action}}]})
    numbers = {seed if not number else derived_seed(seed, -1, number): number for number in range(len(answers))}

    def play(start: ChildStart) -> list[int]:
        reasoning, said, *more = answers[numbers[start.seed]]
        written = [] if said is None else encode(f"{said} ")
        return [*[A] * reasoning, END_THINK, *written, *[A] * sum(more), END]

    return StubTree(
        placebo_of(policy) if placebo else policy,
        play,
        forks=lambda start, position: False,
        answers=len(answers),
        max_running=max_running,
        seed=seed,
        certainty=lambda start: certainty.get(numbers[start.seed], 1.0),
    )
