"""`forkpoint findings`: retests published findings on the model behind a server."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from forkpoint_clients.ab.report import PAGE, RESULTS
from forkpoint_clients.client import DEFAULT_URL, SERVER_VARIABLE
from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.asker import RETRIES, Answer, Asker, ServerLostError, ServerRefusesError
from forkpoint_clients.evaluate.journal import JOURNAL_FILE, Journal, JournalError
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_policies.spec import unknown_name

from .ab import INTERRUPTED, RESUMABLE, unwritable
from .options import ApiKey, normalised
from .output import Format, FormatOption, print_data
from .progress import progress_lines, waiting_lines
from .running import app, completion_of, fail, run_app

if TYPE_CHECKING:
    from forkpoint_clients.findings.base import Finding
    from forkpoint_clients.findings.lab import Cost, LabSetting
    from forkpoint_clients.findings.report import FindingsReport

FORMAT = 1
"""The journal's format; increased when its lines change."""

EMBEDDED, HARD, EASY = "countdown", "countdown:hard", "countdown:easy"
EMBEDDED_TOKENS = 1000
QUESTIONS, QUICK, MIN_QUESTIONS = 100, 16, 2
QUICK_CONTINUATIONS = 8

START = (
    "a server is needed: start one with `forkpoint serve`, or name one with --server URL --model MODEL --data FILE "
    "--scorer …"
)

application = app("Test published findings again, on the model behind a server.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint findings …`. Returns the exit status: 3 if the server was lost or a disk is full; then resume."""
    return run_app(application, "findings", arguments)


@application.command()
def findings(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]…", help="which; all if none is named", show_default=False)
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="list the findings and send nothing")] = False,
    server: Annotated[
        str,
        typer.Option(
            "--server",
            metavar="URL",
            envvar=SERVER_VARIABLE,
            callback=normalised,
            help="the server; most findings need a Forkpoint; /v1 is added",
        ),
    ] = DEFAULT_URL,
    model: Annotated[str, typer.Option("--model", help="the model's name there")] = EMBEDDED,
    data: Annotated[
        str,
        typer.Option("--data", help=datasets.SOURCES),
    ] = HARD,
    score_by: Annotated[str, typer.Option("--scorer", help="as of `forkpoint ab`")] = "",
    extract: Annotated[
        str,
        typer.Option(
            "--extract",
            help="what of two answers is compared: math, boxed, last_line, last_number, text, json_field:NAME",
        ),
    ] = "last_line",
    questions: Annotated[
        list[str] | None,
        typer.Option(
            "--questions",
            metavar="N | NAME=N",
            help=f"how many, of all findings or of one; {QUESTIONS} by default; may be repeated",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="answers to each question under each arm")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="of the questions, the answers and the sampled positions")] = 0,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", min=1, help=f"the longest answer; {EMBEDDED_TOKENS} on Countdown, else the server's limit"
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"{QUICK} questions: to see that all works, not to decide anything")
    ] = False,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="questions at once")] = 24,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="the answers, results.json and report.html")] = Path(
        "forkpoint-findings"
    ),
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="write the report as this page, too, with its plots beside it"),
    ] = None,
    api_key: ApiKey = "none",
    retries: Annotated[int, typer.Option("--retries", min=0, help="of one question, before the run stops")] = RETRIES,
    form: FormatOption = Format.TABLE,
) -> None:
    """Test published findings again: each with its protocol, intervals and a verdict no more certain than they are.

    If it is stopped, the same command resumes it and requests nothing twice, also with more findings or questions.
    """
    from forkpoint_clients.findings.catalog import FINDINGS

    if listed:
        table = Table("name", "question", "source")
        records = [
            {"name": finding.name, "question": finding.question, "source": finding.source}
            for finding in FINDINGS.values()
        ]
        for record in records:
            table.add_row(*record.values())
        print_data(form, records, records, [table])
        return
    try:
        if unknown := [name for name in names or () if name not in FINDINGS]:
            raise ValueError(unknown_name("finding", unknown[0], FINDINGS, "`forkpoint findings --list`"))
        chosen = [FINDINGS[name] for name in FINDINGS if not names or name in names]
        count, exceptions = _counts(questions or [], QUICK if quick else QUESTIONS, [one.name for one in chosen])
        counts = {one.name: exceptions.get(one.name, count) for one in chosen}
        setting, configuration = _setting(
            data, score_by, extract, max(counts.values()), samples, seed, max_tokens, quick
        )
        configuration |= {"questions": min(count, len(setting.items)), "questions_of": exceptions}
        requested = [str(count), *(f"{name}={own}" for name, own in exceptions.items())]
        command = _command(names or [], model, data, score_by, extract, requested, samples, seed, max_tokens, quick)
        asker = Asker(server, model, api_key=api_key, concurrency=concurrency, retries=retries)
        report = asyncio.run(
            _retest(
                chosen,
                setting,
                counts,
                asker,
                concurrency,
                {"server": asker.url, "model": model, **configuration},
                command,
                out,
                form,
            )
        )
        if markdown is not None:
            report.write_markdown(markdown)
    except (ValueError, JournalError, ServerRefusesError) as error:
        raise fail("findings", error) from None
    except ServerLostError as error:
        hints = [START] if server == DEFAULT_URL else []
        if (out / JOURNAL_FILE).exists():
            hints.insert(0, f"the answers so far are in {out}; the same command continues from there")
        raise fail("findings", "\n".join([str(error), *hints]), RESUMABLE) from None
    except OSError as error:
        raise fail("findings", unwritable(error, out), RESUMABLE) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise fail(
            "findings",
            f"stopped; the answers so far are in {out}, and the same command continues from there",
            INTERRUPTED,
        ) from None


def _counts(requested: Sequence[str], default: int, names: Sequence[str]) -> tuple[int, dict[str, int]]:
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


def _setting(
    data: str, score_by: str, extract: str, count: int, samples: int, seed: int, max_tokens: int | None, quick: bool
) -> tuple[LabSetting, dict[str, Any]]:
    """The settings, and the configuration that the journal and the report show. Raises ValueError."""
    from forkpoint_clients.findings.lab import LabSetting
    from forkpoint_policies.spec.answer_extractors import extractor

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


async def _retest(
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
    from forkpoint_clients.findings.lab import Lab
    from forkpoint_clients.findings.report import FindingsReport, RetestedFinding, tables
    from forkpoint_clients.findings.run import retest

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


def _command(
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
