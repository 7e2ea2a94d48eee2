"""Trees, independent samples and branches at random positions, at equal tokens: pass@k and the majority's answer.

Each arm answers each puzzle of the set. Independent samples count with as many answers as cost the engine the same on
average (between two numbers of answers, in proportion). `python -m benchmarks.trees --set hard branch-at-forks`. With
`--out`, each arm's outcomes are stored as soon as it is done, and the same command resumes a run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
from numpy.typing import NDArray

from forkpoint_policies.spec.answer_extractors import extractor
from forkpoint_policies.tasks.countdown import Puzzle, held_out_puzzles, is_correct
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving

CAP_TOKENS = 1000
AT_ONCE = 31  # so that the engine runs all leaves at once: beyond it, branches would be refused
DRAWS = 4000
SUBSETS = 64
LEAVES = 4
SAMPLES = 5  # a tree may cost a little more than as many samples as it has leaves
RESETTABLE = {**ONE_PROCESS, "VLLM_SERVER_DEV_MODE": "1"}  # vLLM then lets its prefix cache be emptied


def _branching(when: dict[str, Any], **branch: Any) -> dict[str, Any]:
    return {"rules": [{"when": {"region": "reasoning", **when}, "do": {"branch": branch}}]}


def _placebo(policy: dict[str, Any]) -> dict[str, Any]:
    return {"rules": [{"do": {"control": {"like": rule, "match": "positions"}}} for rule in policy["rules"]]}


FORK = {"entropy_above": "fork"}
ARMS: dict[str, Any] = {
    "branch-at-forks": "branch-at-forks",
    "branch-at-forks.placebo": "branch-at-forks.placebo",
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
    """One request's answers: which are right, what each says, and the tokens generated for all of them together."""

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


@dataclass(frozen=True)
class Arm:
    """The results of all puzzles, and the mean of the prompt tokens computed for each: those not found in the cache."""

    outcomes: tuple[Outcome, ...]
    prompt_tokens: float

    @property
    def tokens(self) -> NDArray[np.float64]:
        """What each puzzle cost the engine; of the prompts the mean."""
        return np.array([outcome.tokens for outcome in self.outcomes], float) + self.prompt_tokens


async def generate(client: openai.AsyncOpenAI, puzzle: Puzzle, policy: Any, answers: int, seed: int) -> Outcome:
    """One puzzle, so many answers."""
    response = await client.chat.completions.create(
        model="countdown",
        messages=[{"role": "user", "content": puzzle.prompt}],
        temperature=1.0,
        max_tokens=CAP_TOKENS,
        n=answers,
        seed=seed * 1000,
        extra_body={"policy": policy} if policy is not None else {},
    )
    said = [choice.message.content if choice.finish_reason == "stop" else None for choice in response.choices]
    assert response.usage is not None
    read = extractor("text")
    return Outcome(
        tuple(is_correct(puzzle, answer) for answer in said),
        tuple(read(answer) if answer else None for answer in said),
        response.usage.completion_tokens,
    )


def run(server: Server, policy: Any, answers: int, puzzles: Sequence[Puzzle], at_once: int) -> Arm:
    """An arm, so many puzzles at once, with nothing in the prefix cache at first."""
    httpx.post(f"{server.url}/reset_prefix_cache").raise_for_status()
    before = prompt_tokens(server)
    outcomes = asyncio.run(generate_all(server.api, policy, answers, puzzles, at_once))
    return Arm(tuple(outcomes), (prompt_tokens(server) - before) / len(puzzles))


async def generate_all(url: str, policy: Any, answers: int, puzzles: Sequence[Puzzle], at_once: int) -> list[Outcome]:
    """Every puzzle under a policy."""
    free = asyncio.Semaphore(at_once)
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=3600, max_retries=0) as client:

        async def one(number: int) -> Outcome:
            async with free:
                return await generate(client, puzzles[number], policy, answers, seed=number)

        return list(await asyncio.gather(*(one(number) for number in range(len(puzzles)))))


def stored(
    folder: Path | None, name: str, server: Server, policy: Any, answers: int, puzzles: Sequence[Puzzle], at_once: int
) -> Arm:
    """`run`, or what an earlier run of the same requests left in the folder.

    Raises ValueError if the folder has an arm of this name with other requests or from another version of Forkpoint.
    """
    if folder is None:
        return run(server, policy, answers, puzzles, at_once)
    asked = {
        "forkpoint": version("forkpoint-server"),
        "policy": policy,
        "answers": answers,
        "puzzles": [puzzle.prompt for puzzle in puzzles],
    }
    path = folder / f"{name}.json"
    if path.exists():
        found = json.loads(path.read_text())
        if found["asked"] != asked:
            raise ValueError(f"{path} is of other requests or another version; name another folder in --out")
        outcomes = [Outcome(tuple(one["correct"]), tuple(one["said"]), one["tokens"]) for one in found["outcomes"]]
        return Arm(tuple(outcomes), found["prompt_tokens"])
    arm = run(server, policy, answers, puzzles, at_once)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"asked": asked, **asdict(arm)}))
    return arm


def prompt_tokens(server: Server) -> float:
    """The prompt tokens that the engine has computed so far."""
    samples = server.metrics()

    def total(name: str) -> float:
        return sum(value for key, value in samples.items() if key.startswith(name))

    return total("vllm:prompt_tokens_total") - total("vllm:prefix_cache_hits_total")


def of_samples(outcome: Outcome, count: int, random: np.random.Generator) -> tuple[float, float]:
    """The mean over choices of `count` independent answers: pass@count, and the majority's answer."""
    total, right = len(outcome.correct), sum(outcome.correct)
    wrong_only = np.prod([(total - right - num_sampled) / (total - num_sampled) for num_sampled in range(count)])
    subsets = [random.permutation(total)[:count] for _ in range(SUBSETS)]
    voted = [majority([outcome.correct[one] for one in some], [outcome.said[one] for one in some]) for some in subsets]
    return float(1 - wrong_only), float(np.mean(voted))


def line(name: str, tree: Arm, samples: NDArray[np.float64], sample_tokens: NDArray[np.float64]) -> str:
    """A row: an arm's figures, and their difference from independent samples of as many tokens, clustered by puzzle.

    `samples` [puzzles, numbers of samples, 2] are what so many samples give, `sample_tokens` [puzzles] what each costs.
    How many cost as much as the tree is an estimate as well, so each resample of puzzles finds it anew.
    """
    own = np.array([(outcome.passed, outcome.majority) for outcome in tree.outcomes])
    leaves = np.mean([len(outcome.correct) for outcome in tree.outcomes])
    counts, differences = beyond(own, tree.tokens, samples, sample_tokens, np.arange(len(own))[None])
    draws = np.random.default_rng(0).integers(len(own), size=(DRAWS, len(own)))
    low, high = np.percentile(beyond(own, tree.tokens, samples, sample_tokens, draws)[1], [2.5, 97.5], axis=0)
    cells = [
        f"{own[:, which].mean():.1%} | {100 * differences[0, which]:+.1f} "
        f"[{100 * low[which]:+.1f}, {100 * high[which]:+.1f}]"
        for which in range(2)
    ]
    return f"| {name} | {leaves:.1f} | {tree.tokens.mean():.0f} | {counts[0]:.2f} | " + " | ".join(cells) + " |"


def beside_placebo(name: str, by_arm: Mapping[str, Arm]) -> str | None:
    """How far an arm is from the same trees elsewhere, paired by puzzle; None where that was not run."""
    placebo = next((by_arm[other] for other in (f"{name}.placebo", f"{name}, placebo") if other in by_arm), None)
    if placebo is None:
        return None
    own, elsewhere = (np.array([(one.passed, one.majority) for one in arm.outcomes]) for arm in (by_arm[name], placebo))
    passed, voted = (points(column) for column in (own - elsewhere).T)
    return f"{name} less its placebo, points: one of them right {passed}, majority {voted}"


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean, by bootstrap over puzzles."""
    random = np.random.default_rng(0)
    means = values[random.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def points(values: NDArray[np.float64]) -> str:
    """A mean difference in percentage points, with its interval over puzzles."""
    low, high = interval(values)
    return f"{100 * values.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def beyond(
    own: NDArray[np.float64], tokens: NDArray[np.float64], samples: NDArray[np.float64],
    sample_tokens: NDArray[np.float64],
    draws: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """For each draw of puzzles, how many samples cost as much, and the differences [draws, 2] to what they give."""
    most = samples.shape[1]
    counts = np.clip(tokens[draws].mean(axis=1) / sample_tokens[draws].mean(axis=1), 1, most)
    low = np.floor(counts).astype(int)
    share = (counts - low)[:, None]
    means, every = samples[draws].mean(axis=1), np.arange(len(draws))
    equal = means[every, low - 1] * (1 - share) + means[every, np.minimum(low, most - 1)] * share
    return counts, own[draws].mean(axis=1) - equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", help="all of them when none is named")
    parser.add_argument("--set", default="hard", choices=["easy", "hard"])
    parser.add_argument("--puzzles", type=int, default=300)
    parser.add_argument(
        "--after", type=int, default=0, help="leave out so many puzzles: settings are searched on others"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder for every arm's outcomes")
    args = parser.parse_args()
    puzzles = held_out_puzzles(args.set, args.after + args.puzzles)[args.after :]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), environment=RESETTABLE) as server:
        independent = stored(args.out, "independent", server, None, SAMPLES, puzzles, AT_ONCE)
        random = np.random.default_rng(1)
        samples = np.array(
            [[of_samples(one, count, random) for count in range(1, SAMPLES + 1)] for one in independent.outcomes], float
        )
        each = independent.tokens / SAMPLES
        print(
            "| arm | leaves | tokens | as many as | pass@leaves | difference, points | majority | difference, points |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for count in range(1, SAMPLES + 1):
            passed, voted = samples[:, count - 1].mean(axis=0)
            print(
                f"| independent | {count} | {each.mean() * count:.0f} | {count} | {passed:.1%} | | {voted:.1%} | |",
                flush=True,
            )
        by_arm = {"independent": independent}
        for name in args.arms or [name for name in ARMS if not name.endswith(", placebo")]:
            by_arm[name] = stored(args.out, name, server, ARMS[name], LEAVES, puzzles, AT_ONCE)
            print(line(name, by_arm[name], samples, each), flush=True)
        for name in by_arm:
            if (beside := beside_placebo(name, by_arm)) is not None:
                print(beside)


if __name__ == "__main__":
    main()
