"""Policies of several requests with one answer: beside their placebos, and beside simpler ones at equal tokens.

The simpler one is a plain cap for early exits, and the majority of independent samples otherwise. Differences are
paired by puzzle. `python -m benchmarks.one_answer --puzzles 100 deepconf`. With `--out`, each arm's outcomes are stored
as soon as it is done, and the same command resumes a run.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.processes.forkpoint_server import serving

from .trees import RESETTABLE, Arm, beyond, of_samples, points, stored

SAMPLES = 8
AT_ONCE = 14  # so that the engine runs all answers of all requests at once
DRAWS = 4000
AT_LINES: dict[str, Any] = {
    "when": {"previous": {"endings": ["."]}, "region": "reasoning"},
    "do": {"probe": {"tokens": 1, "variance_below": 0.001, "smoothing": 0.2, "fewest": 25}},
}
FITTED: dict[str, dict[str, Any]] = {
    "guess-confidence": {},
    "guess-agreement": {"every": 40, "equal": 4, "extract": "text"},
    "keep-thinking": {"text": " Wait", "budget_tokens": 1500},
    "deepconf": {"answers": SAMPLES, "warm_up": 4, "window": 64, "extract": "text"},
    "first-at-forks": {"branches": SAMPLES},
    "cot-branch": {"answers": SAMPLES},
}
"""Parameters for texts of a few hundred tokens without lines; else the defaults."""
POLICIES: dict[str, tuple[Any, Any]] = {
    name: ({"use": name, "with": own}, {"use": f"{name}.placebo", "with": own}) for name, own in FITTED.items()
} | {"eat": ({"rules": [AT_LINES]}, {"rules": [{"do": {"control": {"like": AT_LINES, "match": "positions"}}}]})}
"""Each with its placebo. The embedded model writes no lines, so that `eat` looks at the ends of sentences."""
COLUMNS = (
    "policy",
    "right",
    "tokens",
    "less its placebo, points",
    "placebo's tokens",
    "beside",
    "its tokens",
    "less that, points",
)


def right(arm: Arm) -> NDArray[np.float64]:
    return np.array([outcome.passed for outcome in arm.outcomes])


def cap_for(tokens: float, lengths: NDArray[np.float64]) -> int | None:
    """The cap that gives answers of these lengths so many tokens on average; None if they have fewer without one."""
    if tokens >= lengths.mean():
        return None
    caps = np.arange(1, int(lengths.max()) + 1)
    return int(caps[np.argmin(np.abs(np.minimum(lengths[:, None], caps).mean(axis=0) - tokens))])


def simpler(ask: Callable[[str, Any], Arm], own: Arm, independent: Arm, puzzles: int) -> tuple[str, str, str]:
    """What costs as much and is simpler, its tokens, and the difference to it. `ask` runs an arm."""
    each = independent.tokens / SAMPLES
    cap = cap_for(float(own.tokens.mean()), each)
    if cap is not None:
        capped = ask(f"cap {cap}", {"use": "reasoning-cap", "with": {"tokens": cap}})
        return f"a cap at {cap}", f"{capped.tokens.mean():.0f}", points(right(own) - right(capped))
    random = np.random.default_rng(1)
    samples = np.array(
        [[of_samples(one, count + 1, random) for count in range(SAMPLES)] for one in independent.outcomes], float
    )
    both = np.array([(outcome.passed, outcome.majority) for outcome in own.outcomes])
    counts, differences = beyond(both, own.tokens, samples, each, np.arange(puzzles)[None])
    draws = np.random.default_rng(0).integers(puzzles, size=(DRAWS, puzzles))
    low, high = np.percentile(beyond(both, own.tokens, samples, each, draws)[1][:, 1], [2.5, 97.5])
    difference = f"{100 * differences[0, 1]:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"the majority of {counts[0]:.1f}", f"{counts[0] * each.mean():.0f}", difference


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_answer", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="POLICY", help=f"{', '.join(POLICIES)}; all of them when none is named"
    )
    parser.add_argument("--puzzles", type=int, default=100)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder for every arm's outcomes")
    args = parser.parse_args()
    if unknown := set(args.names) - set(POLICIES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(POLICIES)}")
    puzzles = held_out_puzzles("hard", args.puzzles)
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), environment=RESETTABLE) as server:

        def ask(arm: str, policy: Any, answers: int = 1) -> Arm:
            return stored(args.out, arm, server, policy, answers, puzzles, AT_ONCE)

        independent = ask("independent", None, SAMPLES)
        alone = np.array([np.mean(outcome.correct) for outcome in independent.outcomes])
        print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
        print(f"| none | {alone.mean():.1%} | {independent.tokens.mean() / SAMPLES:.0f} | | | | | |", flush=True)
        for name in args.names or POLICIES:
            own, placebo = ask(name, POLICIES[name][0]), ask(f"{name}.placebo", POLICIES[name][1])
            cells = (f"{right(own).mean():.1%}", f"{own.tokens.mean():.0f}", points(right(own) - right(placebo)))
            beside = simpler(ask, own, independent, len(puzzles))
            print(f"| `{name}` | " + " | ".join((*cells, f"{placebo.tokens.mean():.0f}", *beside)) + " |", flush=True)


if __name__ == "__main__":
    main()
