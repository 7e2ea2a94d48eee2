"""`forkpoint readout fit`: fits a readout of the served model's hidden states to whether its answers are right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from forkpoint_clients.client import DEFAULT_URL
from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.asker import Asker, SamplingParams, ServerLostError, ServerRefusesError, error_message
from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.fitting.collect import Collected, Setting, collect, labelled
from forkpoint_clients.fitting.readout import ReadoutReport, artefact, fit
from forkpoint_clients.fitting.states import served_model
from forkpoint_policies.hidden.artefact import SUFFIX, Artefact, check_artefact_name
from forkpoint_policies.spec import InputError, parse_policy

from .options import ApiKey, Server
from .output import Format, FormatOption, print_data
from .progress import progress_lines, waiting_lines
from .running import app, completion_of, fail, run_app

NAME = "readout"
AT_SENTENCE_ENDS = '{"region": "reasoning", "previous": {"endings": [".", "\\n\\n"]}}'
BINARY = "application/octet-stream"

application = app("Readouts of the served model's hidden states.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint readout …`; the exit status."""
    return run_app(application, NAME, arguments)


@application.callback()
def commands() -> None:
    """Readouts of the served model's hidden states."""


@application.command("fit")
def fit_readout(
    name: Annotated[str, typer.Argument(help="by which policies will name the readout")],
    data: Annotated[str, typer.Option("--data", help=datasets.SOURCES)] = "countdown:hard",
    score_by: Annotated[str, typer.Option("--scorer", help="as of `forkpoint ab`")] = "",
    questions: Annotated[int, typer.Option("--questions", min=8, help="how many")] = 200,
    samples: Annotated[int, typer.Option("--samples", min=1, help="answers to each question")] = 1,
    at: Annotated[
        str,
        typer.Option("--at", metavar="WHEN", help="where states are read: a condition as in a policy, as JSON"),
    ] = AT_SENTENCE_ENDS,
    max_states: Annotated[
        int, typer.Option("--max-states", min=1, max=4096, help="of an answer, the first ones")
    ] = 256,
    held_out: Annotated[
        float, typer.Option("--held-out", min=0.1, max=0.8, help="the share of questions that are only measured on")
    ] = 0.4,
    placebos: Annotated[
        int, typer.Option("--placebos", min=20, help="how many random directions, and fits to shuffled labels")
    ] = 100,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="that the file suggests to policies")
    ] = 0.85,
    source: Annotated[str, typer.Option("--source", help="for the file: a paper or a URL")] = "",
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, max=2.0)] = 1.0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="the longest answer; without it as long as the model can")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the questions, the answers and the split")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="the file to write; NAME.safetensors without it")
    ] = None,
    store: Annotated[bool, typer.Option("--store", help="store the readout on the server, too")] = False,
    server: Server = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="the model; without it the first that the server lists")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=512, help="questions at once")] = 16,
    api_key: ApiKey = "none",
    form: FormatOption = Format.TABLE,
) -> None:
    """Let the model answer questions, fit a linear readout of its last layer's states to whether the answers are right,
    measure it on held-out questions beside random directions and shuffled labels, and write it as a file.

    Of the questions that are not held out, a quarter calibrates the readout. The states are read by the server's route
    /v1/states, which needs its admin key if it has one.
    """
    try:
        check_artefact_name(name, "NAME")
        when = condition(at)
        measure = scorer(score_by or datasets.default_scorer(data))
        items = datasets.read(data, questions, seed)
        measure.check(items)
        sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
        setting = Setting(items, measure, when, samples, seed, sampling, max_states, concurrency)
        asker = Asker(server, model or "", api_key=api_key, concurrency=concurrency)
        file = out or Path(f"{name}{SUFFIX}")
        asyncio.run(_fit(name, data, asker, setting, held_out, placebos, threshold, source, file, store, form))
    except (InputError, DataError, ServerLostError, ServerRefusesError, ValueError) as error:
        raise fail(f"{NAME} fit", error) from None
    except openai.OpenAIError as error:
        raise fail(f"{NAME} fit", error_message(error)) from None
    except OSError as error:
        raise fail(f"{NAME} fit", f"{error.filename} cannot be written: {error.strerror}") from None


def condition(text: str) -> Mapping[str, Any]:
    """A condition on positions, from JSON. Raises InputError."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError("--at", f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError("--at", f"must be an object such as {AT_SENTENCE_ENDS}")
    try:
        parse_policy({"rules": [{"when": found, "do": {"observe": {}}}]})
    except InputError as error:
        raise InputError(error.field.replace("policy.rules[0].when", "--at"), error.message) from None
    return found


async def _fit(
    name: str, data: str, closed_asker: Asker, setting: Setting, held_out: float, placebos: int, threshold: float,
    source: str, file: Path, store: bool, form: Format,
) -> None:  # fmt: skip
    console = Console(stderr=True)
    async with closed_asker as asker:
        await asker.reach()
        if not await asker.is_forkpoint():
            raise DataError(f"{asker.url} is not a Forkpoint server, and only those read hidden states")
        asker.model = asker.model or (await asker.get("/models"))["data"][0]["id"]
        model = await served_model(asker)
        collected = await _collect(console, asker, setting)
        readout, report = await asyncio.to_thread(fit, collected, held_out, placebos, setting.seed)
        fitted = _how(setting, data, report)
        made = artefact(readout, model, fitted, asker.model, threshold, source)
        await asyncio.to_thread(file.write_bytes, made.raw)
        print_report(report, name, made, form)
        console.print(f"Wrote {file}.", highlight=False, soft_wrap=True)
        if store:
            await asker.client.put(
                f"/vectors/{name}", content=made.raw, cast_to=object, options={"headers": {"Content-Type": BINARY}}
            )
            console.print(f"Stored: policies on {asker.url} can name {name!r}.", highlight=False, soft_wrap=True)


async def _collect(console: Console, asker: Asker, setting: Setting) -> Collected:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress, total = Progress(*columns, console=console), len(setting.items) * setting.samples
    task = progress.add_task("answers", total=total)
    async with AsyncExitStack() as showing:
        showing.enter_context(waiting_lines(lambda line: console.print(line, markup=False), asker.url))
        if console.is_terminal:
            showing.enter_context(progress)
        else:
            done = progress.tasks[0]
            await showing.enter_async_context(
                progress_lines(f"{NAME} fit", lambda: f"{done.completed:,.0f} of {total:,} answers")
            )
        return labelled(await collect(asker, setting, lambda: progress.advance(task)))


def _how(setting: Setting, data: str, report: ReadoutReport) -> str:
    """How a readout was fitted, in a line."""
    found, at = report.separation, shortened(json.dumps(setting.when), 300)
    return (
        f"shrunken linear discriminant of {report.fitted.states} states at {at}, "
        f"calibrated on {report.calibrated.states}; {report.answers} answers to {shortened(data, 200)}, "
        f"scored by {shortened(setting.scorer.name, 100)}; held-out AUC {found.readout:.3f} (random directions "
        f"{found.random_direction:.3f})"
    )


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 3] + "..."


def print_report(report: ReadoutReport, name: str, made: Artefact, form: Format) -> None:
    """What was fitted and how well it separates."""
    document = {"name": name, "readout": made.to_dict(), **report.to_dict()}
    found, splits = report.separation, Table("questions", "number", "states", "right")
    for part, split in (("fitted", report.fitted), ("calibrated", report.calibrated), ("held out", report.held_out)):
        splits.add_row(part, str(split.questions), f"{split.states:,}", f"{split.right:.0%}")
    areas = Table("held out", "area under the ROC curve")
    low, high = found.interval
    areas.add_row(name, f"{found.readout:.3f} (95% interval {low:.3f} to {high:.3f})")
    areas.add_row("random directions, mean", f"{found.random_direction:.3f}")
    areas.add_row(
        "fitted to shuffled labels", f"{found.shuffled_labels:.3f} (as good or better: p = {found.p_value:.3f})"
    )
    low, high = report.position_interval
    areas.add_row("the token's position alone", f"{report.position:.3f} (95% interval {low:.3f} to {high:.3f})")
    said = Table("said", "right", "states")
    for one in report.bins:
        said.add_row(f"{one.low:.1f} to {one.high:.1f}", f"{one.right:.2f}", f"{one.states:,}")
    print_data(form, document, [document], [splits, areas, said])
    if form is Format.TABLE:
        print(f"\n{verdict(report, name)}")


def verdict(report: ReadoutReport, name: str) -> str:
    """What the figures say, in a sentence."""
    if not report.beats_chance:
        return f"{name} does not tell right from wrong better than chance here: do not act on it."
    if not report.beats_position:
        return (
            f"{name} tells right from wrong better than chance, but not clearly better than the token's position does: "
            "it may only count tokens."
        )
    return f"{name} tells right from wrong better than chance, and better than the token's position does."
