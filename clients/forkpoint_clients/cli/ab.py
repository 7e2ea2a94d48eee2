"""`forkpoint ab`: compares arms on a data set, shows the result so far, and resumes an interrupted run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.defaults import DOSE_ANSWERS, RETRIES
from forkpoint_clients.server_address import DEFAULT_URL, SERVER_VARIABLE

from .options import ApiKey, Retries, normalised
from .output import Format, FormatOption
from .running import app, completion_of, run_app

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
    ] = DOSE_ANSWERS,
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
    retries: Retries = RETRIES,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="seconds for one answer")] = 3600,
    title: Annotated[str, typer.Option("--title", help="of the report; by default the arms' names")] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare policies on a data set: the same questions with the same seeds, interleaved.

    If it is stopped, the same command resumes it and requests nothing twice. With more questions, samples or arms, it
    requests only what is missing; with fewer, it reports on those. Another --scorer only scores again.
    """
    from forkpoint_clients.ab import arms, run
    from forkpoint_clients.commands import ab
    from forkpoint_clients.commands.resumable import resumable
    from forkpoint_clients.evaluate.asker import SamplingParams
    from forkpoint_clients.evaluate.scorers import scorer

    with resumable("ab", out):
        measure = scorer(score_by or datasets.default_scorer(data))
        items = datasets.read(data, limit)
        measure.check(items)
        compared = arms.arms(arm, arm_url or (), arm_model or (), arm_api_key or ())
        sampling = SamplingParams(max_tokens, temperature, top_p, ab.fields(extra))
        spec = run.RunSpec(server, model, data, items, compared, samples, seed, sampling)
        asyncio.run(ab.run_arms(spec, measure, out, api_key, concurrency, retries, timeout, form, dose_answers, title))
