"""What each policy of the library does to the embedded model's answers, beside its placebo, on held-out puzzles.

All arms answer the same puzzles with the same seeds at temperature 1: `python -m benchmarks.library --set hard nowait`.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
from numpy.typing import NDArray

from forkpoint_policies.placebo import PLACEBO
from forkpoint_policies.tasks.countdown import Puzzle, held_out_puzzles, is_correct
from tests.processes.forkpoint_server import serving

CAP_TOKENS = 1000
AT_ONCE = 256
DRAWS = 4000
NO_POLICY = "none"
COLUMNS = (
    "arm", "correct", "difference, points", "reasoning tokens", "difference", "capped", "positions acted on",
    "effect per answer"
)  # fmt: skip
FITTED: dict[str, dict[str, Any]] = {
    "alpha-one": {"paragraph": "."},  # the embedded model writes no paragraphs
    "budget-force": {"text": " Wait"},  # the word as this model writes it
}
"""Parameters without which a policy could not act on the embedded model."""


@dataclass(frozen=True)
class Answer:
    correct: bool
    reasoning_tokens: int
    tokens: int
    fired: int
    effect: float
    capped: bool


async def generate(client: openai.AsyncOpenAI, puzzle: Puzzle, arm: str, seed: int) -> Answer:
    """One answer under an arm: a policy's name, or NO_POLICY."""
    policy = {"use": arm, "with": FITTED.get(arm.removesuffix(PLACEBO), {})} if arm != NO_POLICY else "observe"
    response = await client.chat.completions.create(
        model="countdown",
        messages=[{"role": "user", "content": puzzle.prompt}],
        temperature=1.0,
        max_tokens=CAP_TOKENS,
        seed=seed,
        extra_body={"policy": policy},
    )
    summary: dict[str, Any] = (response.model_extra or {})["forkpoint"]
    acted = list(summary["interventions"].values())
    return Answer(
        is_correct(puzzle, response.choices[0].message.content),
        summary["reasoning_tokens"],
        summary["tokens"],
        sum(one["fired"] for one in acted),
        sum(one["effect"] for one in acted),
        response.choices[0].finish_reason == "length",
    )


async def generate_all(url: str, arm: str, puzzles: Sequence[Puzzle]) -> list[Answer]:
    """Every puzzle under an arm."""
    free = asyncio.Semaphore(AT_ONCE)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=3600, max_retries=0) as client:

        async def one(number: int) -> Answer:
            async with free:
                return await generate(client, puzzles[number], arm, seed=number)

        return list(await asyncio.gather(*(one(number) for number in range(len(puzzles)))))


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean, by bootstrap over puzzles."""
    random = np.random.default_rng(0)
    means = values[random.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def row(arm: str, answers: list[Answer], plain: list[Answer]) -> str:
    """A line of the table: of each figure the mean, and of the paired differences to no policy the interval too."""
    correct, before = (np.array([one.correct for one in some], float) for some in (answers, plain))
    length, length_before = (np.array([one.reasoning_tokens for one in some], float) for some in (answers, plain))
    more, longer = correct - before, length - length_before
    low, high = interval(more)
    shortest, longest = interval(longer)
    acted = sum(one.fired for one in answers) / max(1, sum(one.tokens for one in answers))
    return (
        f"| `{arm}` | {correct.mean():.1%} | {100 * more.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] "
        f"| {length.mean():.0f} "
        f"| {longer.mean():+.0f} [{shortest:+.0f}, {longest:+.0f}] | {np.mean([one.capped for one in answers]):.0%} "
        f"| {acted:.1%} | {np.mean([one.effect for one in answers]):.2f} |"
    )


def main() -> None:
    """Print a table for each set of puzzles, arm by arm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.library", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="POLICY", help="these and their placebos; all when none is named")
    parser.add_argument("--puzzles", type=int, default=300)
    parser.add_argument("--set", choices=("easy", "hard"), action="append", help="both by default")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), "--max-num-seqs", "256") as server:
        listed = openai.OpenAI(base_url=server.api, api_key="none").get("/policies", cast_to=dict[str, Any])["data"]
        known = [policy["name"] for policy in listed]
        arms = [name for name in known if not args.names or name.removesuffix(PLACEBO) in args.names]
        for difficulty in args.set or ("easy", "hard"):
            puzzles = held_out_puzzles(difficulty, args.puzzles)
            print(f"\n{difficulty}: {args.puzzles} held-out puzzles, at most {CAP_TOKENS} tokens\n")
            print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
            plain = asyncio.run(generate_all(server.api, NO_POLICY, puzzles))
            print(row(NO_POLICY, plain, plain), flush=True)
            for arm in arms:
                print(row(arm, asyncio.run(generate_all(server.api, arm, puzzles)), plain), flush=True)


if __name__ == "__main__":
    main()
