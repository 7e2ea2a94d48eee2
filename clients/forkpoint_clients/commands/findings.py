"""What `forkpoint findings` does: retests the chosen findings, shows how far it is, writes and prints the report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from forkpoint_clients.ab.report import PAGE, RESULTS
from forkpoint_clients.cli.output import Format, print_data
from forkpoint_clients.cli.progress import progress_lines, waiting_lines
from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.asker import Answer, Asker
from forkpoint_clients.evaluate.journal import Journal
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.findings.base import Finding
from forkpoint_clients.findings.defaults import EASY, EMBEDDED, EMBEDDED_TOKENS, HARD, MIN_QUESTIONS, QUESTIONS
from forkpoint_clients.findings.lab import Cost, Lab, LabSetting
from forkpoint_clients.findings.report import FindingsReport, RetestedFinding, tables
from forkpoint_clients.findings.run import retest
from forkpoint_policies.spec.answer_extractors import extractor

FORMAT = 1
"""The journal's format; increased when its lines change."""

QUICK_CONTINUATIONS = 8


def question_counts(requested: Sequence[str], default: int, names: Sequence[str]) -> tuple[int, dict[str, int]]:
    """The number of questions, and that of the findings with a number of their own. Raises ValueError."""
    count, exceptions = default, {}
    for one in requested:
        name, separator, number = one.rpartition("=")
        if separator and name not in names:
            raise ValueError(f"--questions {one}: {name!r} is not among the findings of this run: {', '.join(names)}")
        if not number.isdecimal() or int(number) < MIN_QUESTIONS:
            raise ValueError(
                f"--questions {one}: give a number of at least {MIN_QUESTIONS}, or the same for one finding: "
                f"{names[0]}={QUESTIONS}"
            )
        if separator:
            exceptions[name] = int(number)
        else:
            count = int(number)
    return count, exceptions


def lab_setting(
    data: str, score_by: str, extract: str, count: int, samples: int, seed: int, max_tokens: int | None, quick: bool
) -> tuple[LabSetting, dict[str, Any]]:
    """The settings, and the configuration that the journal and the report show. Raises ValueError."""
    extractor(extract)
    embedded = data.startswith(datasets.COUNTDOWN)
    measure = scorer(score_by or datasets.default_scorer(data))
    items = datasets.read(data, count, seed) if embedded else datasets.read(data)
    configuration: dict[str, Any] = {
        "data": data,
        "digest": None if embedded else datasets.digest(items),
        **datasets.provenance(data),
        "scorer": measure.name,
        "extract": extract,
        "samples": samples,
        "seed": seed,
        "max_tokens": max_tokens or (EMBEDDED_TOKENS if embedded else None),
    }
    items = items[:count]
    measure.check(items)
    short = datasets.read(EASY, count, seed) if embedded else items
    setting = LabSetting(items, short, measure, samples, seed, configuration["max_tokens"], extract)
    return (replace(setting, continuations=QUICK_CONTINUATIONS, quick=True) if quick else setting), configuration


async def retest_chosen(
    chosen: Sequence[Finding],
    setting: LabSetting,
    counts: Mapping[str, int],
    asker: Asker,
    concurrency: int,
    configuration: dict[str, Any],
    command: str,
    out: Path,
    form: Format,
) -> FindingsReport:
    """Retest the findings, and write and print the report. Raises what `resumable` turns into a line."""
    console, started_at = Console(stderr=True), time.monotonic()
    fixed = {
        name: configuration[name] for name in ("server", "model", "data", "digest", "seed", "max_tokens", "extract")
    }
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with asker:
        await asker.reach()
        # what the journal's answers depend on
        await asker.get("/models")
        if await asker.is_forkpoint():
            configuration["fork_threshold"] = fixed["fork_threshold"] = (await asker.get("/calibration"))[
                "fork_threshold"
            ]
        # the findings, one after another
        async with AsyncExitStack() as stack:
            journal = stack.enter_context(Journal(out, {"forkpoint findings": FORMAT, **fixed}))
            progress = Progress(*columns, console=console)
            task = progress.add_task("answers", total=None)
            current = progress.tasks[0]
            stack.enter_context(waiting_lines(lambda line: console.print(line, markup=False), asker.url))
            if console.is_terminal:
                stack.enter_context(progress)
            else:
                await stack.enter_async_context(
                    progress_lines(
                        "findings",
                        lambda: f"{current.description}: {current.completed:.0f} of {current.total or 0:.0f}",
                    )
                )
            lab = Lab(setting, asker, journal, concurrency)
            lab.progress = lambda what, done, total: progress.update(
                task, description=what[:60], completed=done, total=total
            )

            def print_verdict(retested: RetestedFinding) -> None:
                reason = f" ({retested.cannot})" if retested.cannot else ""
                verdict = f"{retested.finding.name}: {retested.verdict_text}{reason}"
                console.print(verdict, highlight=False, soft_wrap=True)

            tested = await retest(chosen, lab, print_verdict, counts)
    # the report
    seconds = time.monotonic() - started_at
    report = FindingsReport(tested, command, configuration, _cost(list(journal.answers.values()), lab.cost, seconds))
    report.write(out)
    data = report.to_dict()
    print_data(form, data, [summary_record(finding) for finding in data["findings"]], tables(tested))
    said = f"{report.cost['said']} {out / PAGE} and {out / RESULTS}"
    print(said, file=sys.stdout if form is Format.TABLE else sys.stderr)
    return report


def summary_record(finding: Mapping[str, Any]) -> dict[str, Any]:
    """A finding's verdict without its figures."""
    return {name: finding[name] for name in ("name", "verdict", "quick", "n_needed", "source", "cannot")}


def _cost(answers: Sequence[Answer], now: Cost, seconds: float) -> dict[str, Any]:
    """The cost of this run, and of all answers in its folder."""
    tokens = sum(answer.tokens for answer in answers)
    summary = f"{len(answers):,} requests with {tokens:,} generated tokens"
    if now.requests == len(answers):
        summary += f", in {seconds / 60:.1f} minutes."
    elif now.requests:
        summary += (
            f"; this run sent {now.requests:,} of them, with {now.tokens:,} tokens, in {seconds / 60:.1f} minutes."
        )
    else:
        summary += "; this run sent none, all were on disk."
    return {
        "all_requests": len(answers), "all_tokens": tokens, "requests": now.requests, "tokens": now.tokens,
        "seconds": round(seconds, 1), "said": summary,
    }  # fmt: skip


def command_line(
    names: Sequence[str],
    model: str,
    data: str,
    score_by: str,
    extract: str,
    questions: Sequence[str],
    samples: int,
    seed: int,
    max_tokens: int | None,
    quick: bool,
) -> str:
    """The command that reproduces the report with a server at the default address."""
    words = ["forkpoint", "findings", *names]
    for option, value, default in (
        ("--model", model, EMBEDDED),
        ("--data", data, HARD),
        ("--scorer", score_by, ""),
        ("--extract", extract, "last_line"),
        *(("--questions", one, None) for one in questions),
        ("--samples", samples, 1),
        ("--seed", seed, None),
        ("--max-tokens", max_tokens, None),
    ):
        if value != default:
            words += [option, str(value)]
    return shlex.join(words + (["--quick"] if quick else []))
