"""What each policy of the library that acts on logits does to the embedded model's answers, beside its placebo.

All arms answer the same held-out puzzles with the same seeds at temperature 1. Answers are stored as they arrive: the
same command resumes a run. `python -m benchmarks.library --set hard --out runs/library nowait`; `--server` measures a
server that runs already, of another version too.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forkpoint_clients.ab.run import seed_of
from forkpoint_clients.evaluate import formatting, stats
from forkpoint_clients.evaluate.asker import Answer, Asker, Question, SamplingParams
from forkpoint_clients.evaluate.datasets import Item, read
from forkpoint_clients.evaluate.journal import Journal, Unit
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_policies import catalog
from forkpoint_policies.doses import is_strong_enough, match_ratio
from forkpoint_policies.placebo import PLACEBO
from tests.processes.forkpoint_server import serving

FORMAT = 1
"""The journal's format; increased when its lines change."""

CAP_TOKENS = 1000
IN_FLIGHT = 224
SEED = 0
NO_POLICY = "none"
COLUMNS = (
    "arm", "right", "difference, points", "reasoning tokens", "difference", "cut off", "positions acted on",
    "effect per answer", "effect per token", "of its policy's"
)  # fmt: skip
FITTED: dict[str, dict[str, Any]] = {
    "alpha-one": {"paragraph": "."},  # the embedded model writes no paragraphs
    "budget-force": {"text": " Wait"},  # the word as this model writes it
}
"""Parameters without which a policy could not act on the embedded model."""


@dataclass(frozen=True)
class Figures:
    """One answer's figures."""

    right: float
    reasoning_tokens: float
    tokens: float
    fired: float
    effect: float
    cut_off: float


def arms(names: Sequence[str]) -> list[str]:
    """NO_POLICY, then the library's policies of these names (all, if there are none) that act on logits alone, each
    before its placebo.
    """
    policies = [named.policy for named in catalog.library()]
    acting = [policy.name for policy in policies if policy.tree_rule is None and not policy.changes_states]
    return [NO_POLICY, *(name for name in acting if not names or name.removesuffix(PLACEBO) in names)]


def policy_of(arm: str) -> Any:
    """An arm's `policy` field. `observe` changes nothing, and reports what the others do."""
    if arm == NO_POLICY:
        return "observe"
    fitted = FITTED.get(arm.removesuffix(PLACEBO))
    return {"use": arm, "with": fitted} if fitted else arm


async def answer_all(asker: Asker, journal: Journal, items: Sequence[Item], names: Sequence[str], tokens: int) -> None:
    """Answer every puzzle under each arm, arm by arm, and print each arm's row when it and the arms before are done."""
    sampling = SamplingParams(tokens)
    units = [(Unit(item.id, 0, name), item) for name in names for item in items]
    missing = iter([(unit, item) for unit, item in units if unit not in journal.answers])
    unprinted = list(names)

    def print_finished() -> None:
        while unprinted and all(Unit(item.id, 0, unprinted[0]) in journal.answers for item in items):
            arm = unprinted.pop(0)
            policy = arm.removesuffix(PLACEBO) if arm.endswith(PLACEBO) else None
            own, plain = (figures(journal.answers, items, one) for one in (arm, names[0]))
            print(row(arm, own, plain, None if policy is None else figures(journal.answers, items, policy)))

    async def work() -> None:
        for unit, item in missing:
            question = Question(item.messages, seed_of(SEED, item.id, 0), policy_of(unit.arm))
            journal.write(unit, await asker.ask(question, sampling))
            print_finished()

    print_finished()
    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())


def figures(answers: Mapping[Unit, Answer], items: Sequence[Item], arm: str) -> list[Figures]:
    """An arm's figures, by puzzle. Raises ValueError if the server rejected a request."""
    return [_figures(item, answers[Unit(item.id, 0, arm)], arm) for item in items]


def _figures(item: Item, answer: Answer, arm: str) -> Figures:
    if answer.error is not None or answer.forkpoint is None:
        raise ValueError(f"{arm}, {item.id}: {answer.error or 'the server is not a Forkpoint'}")
    acted = answer.forkpoint["interventions"].values()
    return Figures(
        scorer("countdown").score(item, answer.text),
        float(answer.forkpoint["reasoning_tokens"]),
        float(answer.tokens),
        float(sum(action["fired"] for action in acted)),
        float(answer.effect or 0.0),
        float(answer.finish_reason == "length"),
    )


def row(arm: str, answers: Sequence[Figures], plain: Sequence[Figures], policy: Sequence[Figures] | None = None) -> str:
    """A line of the table. Differences to no policy are paired by puzzle, with the intervals of `evaluate.stats`. Of a
    placebo, `policy` are its policy's answers: the last cell is the ratio of their doses.
    """
    puzzles, tokens = np.arange(len(answers)), sum(one.tokens for one in answers)
    right = [one.right - before.right for one, before in zip(answers, plain, strict=True)]
    longer = [one.reasoning_tokens - before.reasoning_tokens for one, before in zip(answers, plain, strict=True)]
    effect = sum(one.effect for one in answers)
    cells = (
        f"`{arm}`",
        f"{np.mean([one.right for one in answers]):.0%}",
        formatting.points(stats.mean(right, puzzles, bound=1.0)) if arm != NO_POLICY else "",
        f"{np.mean([one.reasoning_tokens for one in answers]):.0f}",
        formatting.change(stats.mean(longer, puzzles)) if arm != NO_POLICY else "",
        f"{np.mean([one.cut_off for one in answers]):.0%}",
        f"{sum(one.fired for one in answers) / tokens:.1%}",
        f"{effect / len(answers):.2f}",
        f"{effect / tokens:.4f}",
        "" if policy is None else _ratio(match_ratio(_dose(policy), effect / tokens)),
    )
    return f"| {' | '.join(cells)} |"


def _dose(answers: Sequence[Figures]) -> float:
    """The effect of all answers together per token."""
    return sum(one.effect for one in answers) / sum(one.tokens for one in answers)


def _ratio(ratio: float | None) -> str:
    """A placebo's dose over its policy's, marked where it is too weak to say what the policy does beyond it."""
    if ratio is None:
        return "unknown"
    return f"{ratio:.2f}" if is_strong_enough(ratio) else f"{ratio:.2f}, no conclusion"


@contextmanager
def _served(url: str | None) -> Iterator[str]:
    """The API of the server at `url`, or of one of this tree that runs until the block ends."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), "--max-num-seqs", "256") as server:
        yield server.api


async def measure(url: str, folder: Path, difficulty: str, puzzles: int, names: Sequence[str], tokens: int) -> None:
    """Print a set's table, and store its answers in the folder."""
    items = read(f"countdown:{difficulty}", puzzles, SEED)
    configuration = {"benchmarks.library": FORMAT, "set": difficulty, "tokens": tokens, "seed": SEED}
    print(f"\n{difficulty}: {puzzles} held-out puzzles, at most {tokens} tokens\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    async with Asker(url, "countdown", concurrency=IN_FLIGHT) as asker:
        with Journal(folder / difficulty, configuration) as journal:
            await answer_all(asker, journal, items, names, tokens)


def main() -> None:
    """Print a table for each set of puzzles, arm by arm."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.library", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="POLICY", help="these and their placebos; all when none is named")
    parser.add_argument("--puzzles", type=int, default=300)
    parser.add_argument("--set", choices=("easy", "hard"), action="append", help="both by default")
    parser.add_argument("--tokens", type=int, default=CAP_TOKENS, help="the longest answer")
    parser.add_argument("--placebos", action=argparse.BooleanOptionalAction, default=True, help="measure these, too")
    parser.add_argument("--server", metavar="URL", help="the API of a server that runs; by default one is started")
    parser.add_argument("--out", type=Path, help="the folder that keeps the answers; a temporary one by default")
    args = parser.parse_args()
    names = [name for name in arms(args.names) if args.placebos or not name.endswith(PLACEBO)]
    with tempfile.TemporaryDirectory() as unkept, _served(args.server) as url:
        for difficulty in args.set or ("easy", "hard"):
            asyncio.run(measure(url, args.out or Path(unkept), difficulty, args.puzzles, names, args.tokens))


if __name__ == "__main__":
    main()
