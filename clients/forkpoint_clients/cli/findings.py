"""`forkpoint findings`: retests published findings on the model behind a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.defaults import RETRIES
from forkpoint_clients.findings.defaults import EMBEDDED, EMBEDDED_TOKENS, HARD, QUESTIONS, QUICK
from forkpoint_clients.server_address import DEFAULT_URL, SERVER_VARIABLE

from .options import ApiKey, Retries, normalised
from .output import Format, FormatOption, print_data
from .running import app, completion_of, run_app

START = (
    "a server is needed: start one with `forkpoint serve`, or name one with --server URL --model MODEL --data FILE "
    "--scorer …"
)

application = app("Test published findings again, on the model behind a server.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint findings …`. Returns the exit status: 3 if the server was lost or a disk is full; then resume."""
    return run_app(application, "findings", arguments)


@application.command("findings")
def retest_findings(
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
    retries: Retries = RETRIES,
    form: FormatOption = Format.TABLE,
) -> None:
    """Test published findings again: each with its protocol, intervals and a verdict no more certain than they are.

    If it is stopped, the same command resumes it and requests nothing twice, also with more findings or questions.
    """
    from forkpoint_clients.commands import findings
    from forkpoint_clients.commands.resumable import resumable
    from forkpoint_clients.evaluate.asker import Asker
    from forkpoint_clients.findings.catalog import FINDINGS
    from forkpoint_policies.spec import unknown_name

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
    with resumable("findings", out, [START] if server == DEFAULT_URL else []):
        if unknown := [name for name in names or () if name not in FINDINGS]:
            raise ValueError(unknown_name("finding", unknown[0], FINDINGS, "`forkpoint findings --list`"))
        chosen = [FINDINGS[name] for name in FINDINGS if not names or name in names]
        count, exceptions = findings.question_counts(
            questions or [], QUICK if quick else QUESTIONS, [one.name for one in chosen]
        )
        counts = {one.name: exceptions.get(one.name, count) for one in chosen}
        setting, configuration = findings.lab_setting(
            data, score_by, extract, max(counts.values()), samples, seed, max_tokens, quick
        )
        configuration |= {"questions": min(count, len(setting.items)), "questions_of": exceptions}
        requested = [str(count), *(f"{name}={own}" for name, own in exceptions.items())]
        command = findings.command_line(
            names or [], model, data, score_by, extract, requested, samples, seed, max_tokens, quick
        )
        asker = Asker(server, model, api_key=api_key, concurrency=concurrency, retries=retries)
        report = asyncio.run(
            findings.retest_chosen(
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
