"""Trees beside independent samples and beside branches at random positions, at equal tokens: pass@k and the majority's answer.

Each puzzle of the set is answered by each arm; independent samples are counted with as many answers as cost the same on average
(between two numbers of answers, in proportion). `python -m tests.bench.trees --set hard branch`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
from forkpoint_policies.countdown import Puzzle, held_out_puzzles, is_correct
from forkpoint_policies.extractors import extractor
from numpy.typing import NDArray

from tests.serving import serving

CAP_TOKENS = 1000
AT_ONCE = 31  # so that the engine runs all leaves at once: beyond it, branches would be refused
DRAWS = 4000
SUBSETS = 64
LEAVES = 4


def _branching(when: dict[str, Any], **branch: Any) -> dict[str, Any]:
    return {"rules": [{"when": {"region": "reasoning", **when}, "do": {"branch": branch}}]}


def _placebo(policy: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [{"do": {"control": {"like": rule, "match": "positions"}}} for rule in policy["rules"]]}


FORK = {"entropy_above": "fork"}
ARMS: dict[str, Any] = {
    "branch": "branch",
    "branch.placebo": "branch.placebo",
    "gap 32": _branching(FORK, min_gap=32),
    "gap 100": _branching(FORK, min_gap=100),
    "gap 100, trunk only": _branching(FORK, min_gap=100, depth=1),
    "gap 32, from token 100": _branching({**FORK, "after_token": 100}, min_gap=32),
    "gap 100, from token 200": _branching({**FORK, "after_token": 200}, min_gap=100),
    "1.5 nats": _branching({"entropy_above": 1.5}),
    "2.0 nats": _branching({"entropy_above": 2.0}),
    "2.0 nats, gap 64": _branching({"entropy_above": 2.0}, min_gap=64),
    "top 2 % of its entropies": _branching({"entropy_quantile_above": 0.98}, min_gap=16),
    "sampled, gap 32": _branching(FORK, min_gap=32, alternatives="sampled"),
    "width 3, gap 32": _branching(FORK, min_gap=32, width=3),
    "branch-connectors": "branch-connectors",
    "branch-connectors.placebo": "branch-connectors.placebo",
    "connectors, gap 100": _branching(FORK, min_gap=100, alternatives={"connectors": ["reflection", "alternative"]}),
}
ARMS |= {f"{name}, placebo": _placebo(policy) for name, policy in ARMS.items() if isinstance(policy, dict)}
"""What was searched: threshold, where, how far apart, how deep, and which alternatives."""


@dataclass(frozen=True)
class Outcome:
    """One request's answers: which are right, what each says, and the tokens that all of them took together."""

    correct: tuple[bool, ...]
    said: tuple[str | None, ...]
    tokens: int

    @property
    def passed(self) -> float:
        return float(any(self.correct))

    @property
    def majority(self) -> float:
        """Whether the answer that most gave is right, ties in equal shares."""
        return majority(self.correct, self.said)


def majority(correct: Sequence[bool], said: Sequence[str | None]) -> float:
    votes = Counter(answer for answer in said if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = {answer for answer, count in votes.items() if count == most}
    right = {answer for answer, one in zip(said, correct, strict=True) if one and answer in winners}
    return len(right) / len(winners)


async def ask(client: openai.AsyncOpenAI, puzzle: Puzzle, policy: Any, seed: int) -> Outcome:
    """One puzzle, LEAVES answers."""
    response = await client.chat.completions.create(
        model="countdown",
        messages=[{"role": "user", "content": puzzle.prompt}],
        temperature=1.0,
        max_tokens=CAP_TOKENS,
        n=LEAVES,
        seed=seed * 1000,
        extra_body={"policy": policy} if policy is not None else {},
    )
    answers = [choice.message.content if choice.finish_reason == "stop" else None for choice in response.choices]
    assert response.usage is not None
    read = extractor("text")
    return Outcome(
        tuple(is_correct(puzzle, answer) for answer in answers),
        tuple(read(answer) if answer else None for answer in answers),
        response.usage.completion_tokens,
    )


async def ask_all(url: str, policy: Any, puzzles: Sequence[Puzzle]) -> list[Outcome]:
    """Every puzzle under an arm."""
    free = asyncio.Semaphore(AT_ONCE)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=3600, max_retries=0) as client:

        async def one(number: int) -> Outcome:
            async with free:
                return await ask(client, puzzles[number], policy, seed=number)

        return list(await asyncio.gather(*(one(number) for number in range(len(puzzles)))))


def of_samples(outcome: Outcome, count: int, random: np.random.Generator) -> tuple[float, float]:
    """What `count` of the independent answers would have given, on average over which: pass@count, and the majority's."""
    total, right = len(outcome.correct), sum(outcome.correct)
    wrong_only = np.prod([(total - right - drawn) / (total - drawn) for drawn in range(count)])
    drawn = [random.permutation(total)[:count] for _ in range(SUBSETS)]
    voted = [majority([outcome.correct[one] for one in some], [outcome.said[one] for one in some]) for some in drawn]
    return float(1 - wrong_only), float(np.mean(voted))


def line(name: str, tree: Sequence[Outcome], samples: NDArray[np.float64], sample_tokens: float) -> str:
    """A row: an arm's figures, and how far they are from independent samples of as many tokens; intervals clustered by puzzle."""
    tokens = np.array([outcome.tokens for outcome in tree], float)
    own = np.array([(outcome.passed, outcome.majority) for outcome in tree])
    leaves = np.mean([len(outcome.correct) for outcome in tree])
    counts = np.clip(tokens.mean() / sample_tokens, 1, LEAVES)
    low = int(np.floor(counts))
    share = counts - low
    equal = samples[:, low - 1] * (1 - share) + samples[:, min(low, LEAVES - 1)] * share  # [puzzles, 2]
    random = np.random.default_rng(0)
    draws = random.integers(len(tree), size=(DRAWS, len(tree)))
    cells = []
    for which in range(2):
        difference = own[:, which] - equal[:, which]
        low_end, high_end = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])
        cells += [f"{own[:, which].mean():.1%}", f"{100 * difference.mean():+.1f} [{100 * low_end:+.1f}, {100 * high_end:+.1f}]"]
    return f"| {name} | {leaves:.1f} | {tokens.mean():.0f} | {counts:.2f} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", help="all of them when none is named")
    parser.add_argument("--set", default="hard", choices=["easy", "hard"])
    parser.add_argument("--puzzles", type=int, default=300)
    parser.add_argument("--after", type=int, default=0, help="leave out so many puzzles: settings are searched on others")
    parser.add_argument("--json", type=Path, help="write every outcome there")
    args = parser.parse_args()
    puzzles = held_out_puzzles(args.set, args.after + args.puzzles)[args.after :]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        independent = asyncio.run(ask_all(server.api, None, puzzles))
        random = np.random.default_rng(1)
        samples = np.array([[of_samples(one, count, random) for count in range(1, LEAVES + 1)] for one in independent])
        each = float(np.mean([one.tokens for one in independent])) / LEAVES
        print("| arm | leaves | tokens | as many as | pass@leaves | difference, points | majority | difference, points |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for count in range(1, LEAVES + 1):
            passed, voted = samples[:, count - 1].mean(axis=0)
            print(f"| independent | {count} | {each * count:.0f} | {count} | {passed:.1%} | | {voted:.1%} | |", flush=True)
        kept = {"independent": independent}
        for name in args.arms or [name for name in ARMS if not name.endswith(", placebo")]:
            kept[name] = asyncio.run(ask_all(server.api, ARMS[name], puzzles))
            print(line(name, kept[name], samples, each), flush=True)
            if args.json:
                written = {arm: [[one.correct, one.said, one.tokens] for one in some] for arm, some in kept.items()}
                args.json.write_text(json.dumps(written))


if __name__ == "__main__":
    main()
