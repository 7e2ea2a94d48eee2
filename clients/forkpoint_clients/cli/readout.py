"""`forkpoint readout fit`: fits a readout of the served model's hidden states to whether its answers are right."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.table import Table

from forkpoint_clients.client import DEFAULT_URL
from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.asker import Asker, SamplingParams
from forkpoint_clients.evaluate.scorers import Scorer, scorer
from forkpoint_clients.fitting.collect import Setting
from forkpoint_clients.fitting.readout import ReadoutReport, artefact, fit
from forkpoint_clients.fitting.scored import labelled, scored_by
from forkpoint_clients.fitting.states import LAST_LAYER, Served
from forkpoint_policies.hidden.artefact import Artefact, check_artefact_name

from .fitting import (
    AT_SENTENCE_ENDS,
    At,
    Concurrency,
    Data,
    Destination,
    HeldOut,
    MaxTokens,
    Out,
    Placebos,
    Questions,
    Samples,
    Seed,
    ServedModelName,
    Source,
    Store,
    Temperature,
    collect_showing,
    condition,
    plain_errors,
    run,
    shortened,
    split_table,
    with_interval,
    write,
)
from .options import ApiKey, Server
from .output import Format, FormatOption, print_data
from .running import app, completion_of, run_app

NAME = "readout"
COMMAND = f"{NAME} fit"

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
    data: Data = "countdown:hard",
    score_by: Annotated[str, typer.Option("--scorer", help="as of `forkpoint ab`")] = "",
    questions: Questions = 200,
    samples: Samples = 1,
    at: At = AT_SENTENCE_ENDS,
    max_states: Annotated[
        int, typer.Option("--max-states", min=1, max=4096, help="of an answer, the first ones")
    ] = 256,
    held_out: HeldOut = 0.4,
    placebos: Placebos = 100,
    threshold: Annotated[
        float, typer.Option("--threshold", min=0.0, max=1.0, help="that the file suggests to policies")
    ] = 0.85,
    source: Source = "",
    temperature: Temperature = 1.0,
    max_tokens: MaxTokens = None,
    seed: Seed = 0,
    out: Out = None,
    store: Store = False,
    server: Server = DEFAULT_URL,
    model: ServedModelName = None,
    concurrency: Concurrency = 16,
    api_key: ApiKey = "none",
    form: FormatOption = Format.TABLE,
) -> None:
    """Let the model answer questions, fit a linear readout of its last layer's states to whether the answers are right,
    measure it on held-out questions beside random directions and shuffled labels, and write it as a file.

    Of the questions that are not held out, a quarter calibrates the readout. The states are read by the server's route
    /v1/states, which needs its admin key if it has one.
    """
    with plain_errors(COMMAND):
        check_artefact_name(name, "NAME")
        when = condition(at, "--at")
        measure = scorer(score_by or datasets.default_scorer(data))
        items = datasets.read(data, questions, seed)
        measure.check(items)
        sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
        setting = Setting(items, [when], [LAST_LAYER], samples, seed, sampling, max_states, concurrency)

        async def fitting(asker: Asker, served: Served) -> None:
            answers = await collect_showing(COMMAND, asker, setting, scored_by(measure, items))
            readout, report = await asyncio.to_thread(fit, labelled(answers), held_out, placebos, seed)
            fitted = _how(setting, measure, data, report)
            made = artefact(readout, served.model, fitted, asker.model, threshold, source)
            print_report(report, name, made, form)
            await write(asker, made, Destination(name, out, store))

        run(Asker(server, model or "", api_key=api_key, concurrency=concurrency), fitting)


def _how(setting: Setting, measure: Scorer, data: str, report: ReadoutReport) -> str:
    """How a readout was fitted, in a line."""
    found, at = report.separation, shortened(json.dumps(setting.when[0]), 300)
    return (
        f"shrunken linear discriminant of {report.fitted.states} states at {at}, "
        f"calibrated on {report.calibrated.states}; {report.answers} answers to {shortened(data, 200)}, "
        f"scored by {shortened(measure.name, 100)}; held-out AUC {found.fitted:.3f} (random directions "
        f"{found.random_direction:.3f})"
    )


def print_report(report: ReadoutReport, name: str, made: Artefact, form: Format) -> None:
    """What was fitted and how well it separates."""
    document = {"name": name, "readout": made.to_dict(), **report.to_dict()}
    found = report.separation
    splits = split_table(
        "right", {"fitted": report.fitted, "calibrated": report.calibrated, "held out": report.held_out}
    )
    areas = Table("held out", "area under the ROC curve")
    areas.add_row(name, with_interval(found.fitted, found.interval))
    areas.add_row("random directions, mean", f"{found.random_direction:.3f}")
    areas.add_row(
        "fitted to shuffled labels", f"{found.shuffled_labels:.3f} (as good or better: p = {found.p_value:.3f})"
    )
    areas.add_row("the token's position alone", with_interval(report.position.area, report.position.interval))
    said = Table("said", "right", "states")
    for one in report.bins:
        said.add_row(f"{one.low:.1f} to {one.high:.1f}", f"{one.right:.2f}", f"{one.states:,}")
    print_data(form, document, [document], [splits, areas, said])
    if form is Format.TABLE:
        print(f"\n{verdict(report, name)}")


def verdict(report: ReadoutReport, name: str) -> str:
    """What the figures say, in a sentence."""
    if not report.separation.beats_chance:
        return f"{name} does not tell right from wrong better than chance here: do not act on it."
    if not report.beats_position:
        return (
            f"{name} tells right from wrong better than chance, but not clearly better than the token's position does: "
            "it may only count tokens."
        )
    return f"{name} tells right from wrong better than chance, and better than the token's position does."
