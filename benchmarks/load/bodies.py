"""The load's requests: puzzles under policies of every kind, a quarter of them branching, all streamed."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from forkpoint_policies.tasks.countdown import Puzzle, held_out_puzzles
from forkpoint_server.demo import SERVED_NAME

Json = dict[str, Any]
Kind = Literal["no policy", "policy", "branching"]

MAX_TOKENS = 200
LEAVES_EVERY = 32
"""Of so many requests one client goes away in the middle."""
EXPERIMENT: Json = {
    "name": "load",
    "unit": "user",
    "arms": [{"name": "plain", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}],
}
APART: Json = {"rules": [{"when": {"entropy_above": "fork"}, "do": {"branch": {"min_gap": 32}}}]}
CALM: Json = {
    "rules": [{"when": {"entropy_above": "fork"}, "do": {"suppress": {"connectors": ["reflection"], "bias": -8.0}}}]
}

MIX: tuple[tuple[Kind, Json], ...] = (
    ("branching", {"policy": "branch-at-forks", "n": 3}),
    ("branching", {"policy": APART, "n": 2}),
    ("branching", {"policy": "first-at-forks"}),
    ("branching", {"policy": "deer"}),
    ("no policy", {}),
    ("no policy", {}),
    ("policy", {"policy": "observe"}),
    ("policy", {"policy": "nowait"}),
    ("policy", {"policy": "nowait.placebo"}),
    ("policy", {"policy": "dual-temperature"}),
    ("policy", {"policy": {"use": "switch-penalty", "shadow": True}}),
    ("policy", {"policy": "entropix", "forks": True}),
    ("policy", {"policy": CALM, "forks": True}),
    ("policy", {"policy": "min-p-at-forks", "n": 2}),
    ("policy", {"in_experiment": True}),
    ("policy", {"in_experiment": True}),
)
OURS = ("policy", "forks")


@dataclass(frozen=True)
class LoadRequest:
    """One request: its route, and after how many parts of the answer its client leaves, if it does."""

    kind: Kind
    path: str
    body: Json
    leaves_after: int | None

    @property
    def choices(self) -> int:
        return int(self.body.get("n", 1))


@dataclass(frozen=True)
class Bodies:
    """The requests by number: the same for every server. `plain` ones name no policy, as stock vLLM knows none."""

    plain: bool
    puzzles: tuple[Puzzle, ...] = field(
        default_factory=lambda: (*held_out_puzzles("easy", 300), *held_out_puzzles("hard", 300)), repr=False
    )

    def __getitem__(self, number: int) -> LoadRequest:
        kind, extra = MIX[number % len(MIX)]
        chance = random.Random(number)
        body: Json = {
            "model": SERVED_NAME, "stream": True, "stream_options": {"include_usage": True}, "temperature": 1.0,
            "max_tokens": MAX_TOKENS, "seed": number, **_wanted(extra, self.plain, number),
        }  # fmt: skip
        prompt = chance.choice(self.puzzles).prompt
        leaves = chance.randrange(1, MAX_TOKENS // 2) if chance.randrange(LEAVES_EVERY) == 0 else None
        if chance.randrange(4) == 0:
            return LoadRequest(kind, "/v1/completions", {**body, "prompt": prompt}, leaves)
        return LoadRequest(
            kind, "/v1/chat/completions", {**body, "messages": [{"role": "user", "content": prompt}]}, leaves
        )


def _wanted(extra: Mapping[str, Any], plain: bool, number: int) -> Json:
    wanted = {key: value for key, value in extra.items() if not (plain and key in OURS)}
    if wanted.pop("in_experiment", False):
        wanted["user"] = f"user-{number % 500}"
    return wanted
