"""`forkpoint ab`: compares arms on a data set, shows the result so far, and resumes an interrupted run."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import astuple, replace
from pathlib import Path
from typing import Annotated, Any

import typer
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
from forkpoint_clients.client import DEFAULT_URL, SERVER_VARIABLE
from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.asker import RETRIES, Answer, SamplingParams, ServerLostError, ServerRefusesError
from forkpoint_clients.evaluate.journal import JOURNAL_FILE, Journal, JournalError, Unit
from forkpoint_clients.evaluate.scorers import Scorer, scorer

from .options import ApiKey, normalised
from .output import Format, FormatOption, print_data
from .progress import progress_lines, seconds, waiting_lines
from .running import app, completion_of, fail, run_app

ONE_ARM = "one arm: its answers are scored and nothing is compared; --arm NAME adds another, later too"
RESUMABLE = 3
"""The exit status of a run that the same command resumes."""
INTERRUPTED = 130
REFRESH_SECONDS = 2.0

application = app("Compare policies on a data set: the same questions with the same seeds, interleaved.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint ab …`. Returns the exit status: 3 if the server was lost or the disk is full; then resume."""
    return run_app(application, "ab", arguments or ["--help"])


@application.command()
def compare_arms(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help=datasets.SOURCES,
        ),
    ],
    arm: Annotated[
        list[str],
        typer.Option(
            "--arm", help="none, a policy's name, NAME=POLICY, NAME={…} or NAME=FILE.yaml; the first is compared with"
        ),
    ],
    model: Annotated[str, typer.Option("--model", help="the model's name there")] = "countdown",
    server: Annotated[
        str,
        typer.Option(
            "--server",
            metavar="URL",
            envvar=SERVER_VARIABLE,
            callback=normalised,
            help="any OpenAI-compatible server; policies need a Forkpoint; /v1 is added where there is no path",
        ),
    ] = DEFAULT_URL,
    score_by: Annotated[
        str,
        typer.Option(
            "--scorer",
            help=(
                "exact, number, math, boxed, last_line, json_field:PATH, countdown, gym, gym:partial, regex:…, "
                "python:FILE.py:FUNCTION, command:…"
            ),
        ),
    ] = "",
    samples: Annotated[int, typer.Option("--samples", min=1, help="answers to each question under each arm")] = 1,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="only the first questions; 200 puzzles by default")
    ] = None,
    dose_answers: Annotated[
        int,
        typer.Option(
            "--dose-answers",
            min=0,
            help="calibration answers per strength that give a placebo its policy's dose; 0 leaves placebos as named",
        ),
    ] = dose_matching.DEFAULT_ANSWERS,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="questions at once")] = 16,
    seed: Annotated[int, typer.Option("--seed", help="of the answers' seeds and the order of asking")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", min=1, help="the longest answer; the server's limit by default")
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0)] = 1.0,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0, max=1)] = None,
    extra: Annotated[
        str, typer.Option("--extra", metavar="JSON", help="further fields of each request, as an object")
    ] = "{}",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="the answers, results.json and report.html")] = Path(
        "forkpoint-ab"
    ),
    api_key: ApiKey = "none",
    arm_url: Annotated[
        list[str] | None, typer.Option("--arm-url", metavar="NAME=URL", help="this arm's server")
    ] = None,
    arm_model: Annotated[
        list[str] | None, typer.Option("--arm-model", metavar="NAME=MODEL", help="this arm's model")
    ] = None,
    arm_api_key: Annotated[
        list[str] | None, typer.Option("--arm-api-key", metavar="NAME=KEY", help="this arm's key")
    ] = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="of one question, before the run stops")] = RETRIES,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="seconds for one answer")] = 3600,
    title: Annotated[str, typer.Option("--title", help="of the report; by default the arms' names")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare policies on a data set: the same questions with the same seeds, interleaved.

    If it is stopped, the same command resumes it and requests nothing twice. With more questions, samples or arms, it
    requests only what is missing; with fewer, it reports on those. Another --scorer only scores again.
    """
    try:
        measure = scorer(score_by or datasets.default_scorer(data))
        items = datasets.read(data, limit)
        measure.check(items)
        compared = arms.arms(arm, arm_url or (), arm_model or (), arm_api_key or ())
        sampling = SamplingParams(max_tokens, temperature, top_p, _fields(extra))
        spec = run.RunSpec(server, model, data, items, compared, samples, seed, sampling)
        asyncio.run(_run(spec, measure, out, api_key, concurrency, retries, timeout, form, dose_answers, title))
    except (ValueError, JournalError, ServerRefusesError) as error:
        raise fail("ab", error) from None
    except ServerLostError as error:
        so_far = (
            f"\nThe answers so far are in {out}; the same command continues from there."
            if (out / JOURNAL_FILE).exists()
            else ""
        )
        raise fail("ab", f"{error}{so_far}", RESUMABLE) from None
    except OSError as error:
        raise fail("ab", unwritable(error, out), RESUMABLE) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise fail(
            "ab", f"stopped; the answers so far are in {out}, and the same command continues from there", INTERRUPTED
        ) from None


def unwritable(error: OSError, out: Path) -> str:
    """The message for a folder or disk that cannot be written."""
    return (
        f"cannot write: {error}\nThe answers so far are in {out}; "
        "once it can be written, the same command continues from there."
    )


async def _run(
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


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--extra: is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"--extra: must be an object, not {text}")  # noqa: TRY004  # as of any wrong argument
    return fields
