"""`forkpoint evidence`: calibrates a served model, retests findings on it, compares policies, and writes one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.defaults import RETRIES
from forkpoint_clients.server_address import DEFAULT_URL

from .options import ApiKey, Retries, Server
from .running import app, completion_of, run_app

application = app("Calibrate a model, retest findings on it and compare policies, on one page.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint evidence …`; the exit status: 3 if the same command resumes it."""
    return run_app(application, "evidence", arguments or ["--help"])


@application.command()
def evidence(
    data: Annotated[str, typer.Option("--data", help=datasets.SOURCES)],
    model: Annotated[str, typer.Option("--model", help="the model's name on the server")],
    server: Server = DEFAULT_URL,
    score_by: Annotated[str, typer.Option("--scorer", help="as of `forkpoint ab`")] = "",
    extract: Annotated[str, typer.Option("--extract", help="as of `forkpoint findings`")] = "last_line",
    finding: Annotated[
        list[str] | None, typer.Option("--finding", help="a finding to retest, several times; all by default")
    ] = None,
    budget: Annotated[
        int, typer.Option("--budget", metavar="TOKENS", min=20_000, help="the tokens to generate, in all")
    ] = 2_000_000,
    questions: Annotated[
        int, typer.Option("--questions", min=2, help="of the first round of findings; more follow if they need more")
    ] = 40,
    ab_questions: Annotated[int, typer.Option("--ab-questions", min=2, help="the most for the arms")] = 300,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="the longest answer")] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="of the arms")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="of the answers and the sampled positions")] = 0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="questions at once")] = 16,
    note: Annotated[
        str, typer.Option("--note", help="a sentence for the page, such as how the model was quantised")
    ] = "",
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="everything that is measured")] = Path(
        "forkpoint-evidence"
    ),
    markdown: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE", help="write the page there, too, with its plots beside it"),
    ] = None,
    api_key: ApiKey = "none",
    retries: Retries = RETRIES,
) -> None:
    """Calibrate a served model, retest published findings on it, and compare policies with their placebos.

    It can be stopped at any time: the same command continues, and requests nothing twice.
    """
    from forkpoint_clients.commands.evidence import measure

    settings: dict[str, Any] = {
        "model": model, "server": server, "data": data, "scorer": score_by, "extract": extract,
        "findings": finding or [], "questions": questions, "ab_questions": ab_questions, "max_tokens": max_tokens,
        "temperature": temperature, "seed": seed, "budget_tokens": budget, "note": note,
    }  # fmt: skip
    measure(settings, api_key, retries, concurrency, out, markdown)
