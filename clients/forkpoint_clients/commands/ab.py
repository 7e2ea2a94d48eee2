"""What `forkpoint ab` does: asks what is missing of a run, shows how far it is, and writes and prints the report."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from forkpoint_clients.ab import arms, dose_matching, reasoning_caps, run
from forkpoint_clients.ab.comparison import (
    Comparison,
    ScoredAnswer,
    compare,
    compare_interim,
    score,
    score_answer,
)
from forkpoint_clients.ab.continuation import Continuation, growth
from forkpoint_clients.ab.placebo_comparison import compare_with_placebos
from forkpoint_clients.ab.report import PAGE, RESULTS, ComparisonReport, tables
from forkpoint_clients.ab.tally import Tally
from forkpoint_clients.cli.output import Format, print_data
from forkpoint_clients.cli.progress import progress_lines, seconds, waiting_lines
from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.journal import Journal, Unit
from forkpoint_clients.evaluate.scorers import Scorer

ONE_ARM = "one arm: its answers are scored and nothing is compared; --arm NAME adds another, later too"
REFRESH_SECONDS = 2.0


async def run_arms(
    spec: run.RunSpec,
    measure: Scorer,
    out: Path,
    api_key: str,
    concurrency: int,
    retries: int,
    timeout_seconds: float,
    form: Format,
    dose_answers: int,
    title: str,
) -> None:
    """Ask what is missing of a run, and write and print its report. Raises what `resumable` turns into a line."""
    console = Console(stderr=True)
    async with AsyncExitStack() as stack:
        prepared = await run.prepare(spec, stack, api_key, concurrency, retries, timeout_seconds)
        for warning in prepared.warnings:
            console.print(f"warning: {warning}", style="yellow", markup=False)
        matches: Sequence[dose_matching.DoseMatch] = ()
        if dose_answers:
            prepared, matches = await dose_matching.match_doses(
                prepared, out, dose_answers, lambda line: console.print(line, markup=False, soft_wrap=True)
            )
            spec = prepared.run
        if len(spec.arms) == 1:
            console.print(ONE_ARM, markup=False, highlight=False, soft_wrap=True)
        continuation = Continuation(prepared.configuration, spec.items)
        with Journal(out, continuation.configure) as journal:
            for notice in continuation.notices:
                console.print(notice, markup=False, highlight=False, soft_wrap=True)
            prepared = replace(prepared, labels=continuation.labels)
            stored, order = prepared.stored(journal), spec.units()
            if journal.answers:
                console.print(f"{len(stored)} of {len(order)} answers are there already")
            answers = await asyncio.to_thread(score, stored, spec.items, measure)
            caps: list[reasoning_caps.CapArm] = []
            try:
                await _ask(prepared, journal, measure, concurrency, answers, console)
                caps = reasoning_caps.choose(prepared.stored(journal), spec)
                await _ask_caps(prepared, caps, journal, measure, concurrency, answers, console)
            finally:
                if answers:
                    # sums do not depend on the order in which answers arrived
                    ordered = {unit: answers[unit] for unit in sorted(answers, key=astuple)}
                    comparison = _compare(prepared, ordered)
                    capped = reasoning_caps.compare_with_caps(ordered, caps)
                    history = growth(journal.stored.configurations)
                    whole = {unit: ordered[unit] for unit in run.completed_blocks(order, ordered)}
                    beside = compare_with_placebos(whole, arms.placebos(spec.arms))
                    report = ComparisonReport(
                        prepared.configuration, measure.name, spec.arms, comparison, capped, history, beside, matches,
                        _of_arms(ordered, spec), spec.items, title,
                    )  # fmt: skip
                    report.write(out)
                    _print(report, form)
                    files = f"{out / PAGE} and {out / RESULTS}"
                    print(files, file=sys.stdout if form is Format.TABLE else sys.stderr)


def _compare(prepared: run.PreparedRun, answers: Mapping[Unit, ScoredAnswer]) -> Comparison:
    """The comparison of a run, or the interim one of a run that has not ended."""
    names, order = [arm.name for arm in prepared.run.arms], prepared.run.units()
    if all(unit in answers for unit in order):
        return compare(answers, names, len(order), multi_request_arms=prepared.multi_request_arms)
    return compare_interim(answers, order, names, len(order), prepared.multi_request_arms)


def _of_arms(answers: Mapping[Unit, ScoredAnswer], spec: run.RunSpec) -> dict[Unit, ScoredAnswer]:
    """The answers of the run's arms, without those of caps."""
    names = {arm.name for arm in spec.arms}
    return {unit: scored for unit, scored in answers.items() if unit.arm in names}


def _print(report: ComparisonReport, form: Format) -> None:
    """Print the result: all of it as a table, the data alone in any other form."""
    print_data(
        form, report.to_dict(), report.records(), tables(report.comparison, report.reasoning_caps, report.placebos)
    )
    if form is Format.TABLE:
        print(*report.notes(), sep="\n")


async def _ask_caps(
    prepared: run.PreparedRun,
    caps: Sequence[reasoning_caps.CapArm],
    journal: Journal,
    measure: Scorer,
    concurrency: int,
    answers: dict[Unit, ScoredAnswer],
    console: Console,
) -> None:
    """Send the questions of the second half under the caps that early exits are compared with."""
    if caps:
        of_caps = await reasoning_caps.prepare_caps(prepared, caps)
        answers |= await asyncio.to_thread(score, of_caps.stored(journal), of_caps.run.items, measure)
        console.print(f"then {', '.join(cap.name for cap in caps)}, on half of the questions", markup=False)
        await _ask(of_caps, journal, measure, concurrency, answers, console)


async def _ask(
    prepared: run.PreparedRun,
    journal: Journal,
    measure: Scorer,
    concurrency: int,
    answers: dict[Unit, ScoredAnswer],
    console: Console,
) -> None:
    """Send the remaining units, add each scored answer to `answers`, and show how far the run is."""
    items = {item.id: item for item in prepared.run.items}
    arms_of_run, stored = [arm.name for arm in prepared.run.arms], prepared.stored(journal)
    tally = Tally.of(arms_of_run, len(prepared.run.units()), stored)
    scoring: set[asyncio.Task[None]] = set()

    async def rate(unit: Unit, answer: Answer) -> None:
        answers[unit] = await asyncio.to_thread(score_answer, answer, items[unit.question], measure)

    def answered(unit: Unit, answer: Answer) -> None:
        task = asyncio.create_task(rate(unit, answer))
        scoring.add(task)
        task.add_done_callback(scoring.discard)
        tally.add(unit, answer)

    if tally.answered == tally.total:
        return
    servers = ", ".join(dict.fromkeys(asker.url for asker in prepared.askers.values()))
    async with AsyncExitStack() as showing:
        showing.enter_context(waiting_lines(lambda line: console.print(line, markup=False, highlight=False), servers))
        if console.is_terminal:
            view = Live(
                get_renderable=lambda: _view(prepared, tally, answers),
                console=console, refresh_per_second=1 / REFRESH_SECONDS, transient=True,
            )  # fmt: skip
            showing.enter_context(view)
        else:
            await showing.enter_async_context(progress_lines("ab", lambda: describe(tally)))
        try:
            await run.ask(prepared, journal, concurrency, answered)
        finally:
            await asyncio.gather(*scoring)


def describe(tally: Tally) -> str:
    """How far a run is, in a line."""
    left = tally.seconds_left
    speed = f"{tally.tokens_per_second:.0f} tokens/s" + ("" if left is None else f", about {seconds(left)} left")
    per_arm = ", ".join(f"{name} {arm.answers}" for name, arm in tally.arms.items())
    cut, errors = (sum(getattr(arm, count) for arm in tally.arms.values()) for count in ("truncated", "errors"))
    return f"{tally.answered} of {tally.total} answers, {speed}; {per_arm}; {cut} cut off, {errors} errors"


def _view(prepared: run.PreparedRun, tally: Tally, answers: Mapping[Unit, ScoredAnswer]) -> Group:
    """The live view: counts and speed, and the means over the questions that all arms have answered."""
    counts = Table("arm", "answers", "cut off", "errors")
    for name, arm in tally.arms.items():
        counts.add_row(Text(name), str(arm.answers), str(arm.truncated), str(arm.errors))
    left = tally.seconds_left
    speed = f"{tally.tokens_per_second:.0f} tokens/s" + ("" if left is None else f", about {seconds(left)} left")
    bar = Progress(TextColumn("answers"), BarColumn(), MofNCompleteColumn(), TextColumn(speed))
    bar.add_task("answers", total=tally.total, completed=tally.answered)
    names, order, shown = [arm.name for arm in prepared.run.arms], prepared.run.units(), dict(answers)
    interim = compare_interim(shown, order, names, len(order), prepared.multi_request_arms)
    return Group(counts, *(tables(interim) if interim.compared else []), bar)


def fields(text: str) -> dict[str, Any]:
    """The further fields of each request, from the JSON of --extra. Raises ValueError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--extra: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"--extra: must be an object, not {text}")  # noqa: TRY004  # as of any wrong argument
    return found
