"""`forkpoint steer fit`: fits a vector for `steer` to the served model's hidden states where two conditions hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from forkpoint_clients.client import DEFAULT_URL
from forkpoint_clients.evaluate import datasets
from forkpoint_clients.evaluate.asker import Asker, SamplingParams
from forkpoint_clients.fitting.collect import Setting
from forkpoint_clients.fitting.conditions import Labels, labelled_by, together
from forkpoint_clients.fitting.states import Served
from forkpoint_clients.fitting.vector import LayerReport, VectorReport, artefact, fit
from forkpoint_policies.hidden.artefact import Artefact, check_artefact_name
from forkpoint_policies.hidden.fit_vector import Method
from forkpoint_policies.spec import InputError

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

NAME = "steer"
COMMAND = f"{NAME} fit"

application = app("Vectors for `steer`, fitted to the served model's hidden states.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint steer …`; the exit status."""
    return run_app(application, NAME, arguments)


@application.callback()
def commands() -> None:
    """Vectors for `steer`, fitted to the served model's hidden states."""


@application.command("fit")
def fit_vector(
    name: Annotated[str, typer.Argument(help="by which policies will name the vector")],
    positive: Annotated[
        str, typer.Option("--positive", metavar="WHEN", help="whose states the vector points to: a condition, as JSON")
    ] = "",
    negative: Annotated[
        str, typer.Option("--negative", metavar="WHEN", help="whose states it points away from: a condition, as JSON")
    ] = "",
    at: At = AT_SENTENCE_ENDS,
    ahead: Annotated[
        int,
        typer.Option(
            "--ahead", min=0, max=64,
            help="at how many tokens after a state its condition may hold; 0 is the token itself",
        ),
    ] = 1,
    layers: Annotated[
        str, typer.Option("--layers", metavar="N,M", help="hooked layers to fit at; all of the server's without it")
    ] = "",
    keep: Annotated[
        str, typer.Option("--keep", metavar="N,M", help="layers of the vector; the one that separates best without it")
    ] = "",
    method: Annotated[Method, typer.Option("--method", help="how a layer's vector is fitted")] = "mean-difference",
    data: Data = "countdown:hard",
    questions: Questions = 200,
    samples: Samples = 1,
    max_states: Annotated[
        int,
        typer.Option(
            "--max-states", min=2, max=4096, help="of an answer, the first positions where one of the conditions holds"
        ),
    ] = 512,
    held_out: HeldOut = 0.4,
    placebos: Placebos = 100,
    scale: Annotated[float, typer.Option("--scale", help="that the file suggests to policies")] = 1.0,
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
) -> None:  # fmt: skip
    """Let the model answer questions, read its states at some tokens of the answers, fit the vector from those where a
    negative condition is about to hold to those where a positive one is, measure it on held-out questions beside
    random directions and shuffled labels, and write it as a file.

    Without one of the two conditions, all other states take its place. The server must have been started with
    --hidden-layers. The states are read by its route /v1/states, which needs its admin key if it has one.
    """
    with plain_errors(COMMAND):
        check_artefact_name(name, "NAME")
        if not positive and not negative:
            raise InputError("--positive", "or --negative must be given: a condition, as JSON")
        labels = Labels(
            condition(at, "--at"),
            condition(positive, "--positive") if positive else None,
            condition(negative, "--negative") if negative else None,
            ahead,
        )
        wanted, kept = _layers(layers, "--layers"), _layers(keep, "--keep")
        items = datasets.read(data, questions, seed)
        sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)

        async def fitting(asker: Asker, served: Served) -> None:
            read = _hooked(wanted, kept, served)
            setting = Setting(items, labels.when, read, samples, seed, sampling, max_states, concurrency)
            answers = await collect_showing(COMMAND, asker, setting, labelled_by(labels, max_states))
            vectors, report = await asyncio.to_thread(fit, together(answers), method, held_out, placebos, seed)
            written = [f"layer.{layer}" for layer in kept] or [report.best.layer]
            fitted = _how(labels, method, data, report, written)
            made = artefact(vectors, written, served.model, fitted, asker.model, scale, source)
            print_report(report, name, made, form)
            await write(asker, made, Destination(name, out, store))

        run(Asker(server, model or "", api_key=api_key, concurrency=concurrency), fitting)


def _layers(text: str, option: str) -> tuple[int, ...]:
    """Layers as in 12,20. Raises InputError."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise InputError(option, f"must be numbers of layers separated by commas, as in 12,20; not {text[:50]!r}")
    return tuple(sorted({int(part) for part in parts}))


def _hooked(wanted: Sequence[int], kept: Sequence[int], served: Served) -> list[int]:
    """The layers to read. Raises InputError for one that the server does not hook, or that is kept and not read."""
    if not served.hidden_layers:
        raise InputError("--server", "was started without --hidden-layers: vectors can be added to none of its layers")
    hooked = ", ".join(map(str, served.hidden_layers))
    unknown = [layer for layer in wanted if layer not in served.hidden_layers]
    if unknown:
        raise InputError("--layers", f"layer {unknown[0]} is not hooked; the server hooks {hooked} (--hidden-layers)")
    read = list(wanted or served.hidden_layers)
    unread = [layer for layer in kept if layer not in read]
    if unread:
        raise InputError(
            "--keep", f"layer {unread[0]} is not one of those that are fitted: {', '.join(map(str, read))}"
        )
    return read


def _how(labels: Labels, method: Method, data: str, report: VectorReport, written: Sequence[str]) -> str:
    """How a vector was fitted, in a line."""
    conditions = {"at": labels.at, "positive": labels.positive, "negative": labels.negative}
    named = "; ".join(
        f"{name} {shortened(json.dumps(one), 150)}" for name, one in conditions.items() if one is not None
    )
    areas = ", ".join(
        f"{one.layer} {one.separation.fitted:.3f} (random directions {one.separation.random_direction:.3f})"
        for one in report.layers[:4]
        if one.layer in written
    )
    return (
        f"{method} of {report.fitted.states} states; {named}; labels {labels.ahead} tokens ahead; {report.answers} "
        f"answers to {shortened(data, 150)}; held-out AUC {areas}"
    )


def print_report(report: VectorReport, name: str, made: Artefact, form: Format) -> None:
    """What was fitted and how well each layer separates."""
    document = {"name": name, "vector": made.to_dict(), **report.to_dict()}
    splits = split_table("positive", {"fitted": report.fitted, "held out": report.held_out})
    areas = Table("layer", "norm", "of states", "held-out area under the ROC curve", "random", "shuffled", "p")
    for one in report.layers:
        found = one.separation
        areas.add_row(
            one.layer.removeprefix("layer."), f"{one.norm:.2f}", f"{one.state_norm:.2f}",
            with_interval(found.fitted, found.interval), f"{found.random_direction:.3f}",
            f"{found.shuffled_labels:.3f}", f"{found.p_value:.3f}",
        )  # fmt: skip
    areas.add_row("position alone", "", "", with_interval(report.position.area, report.position.interval), "", "", "")
    print_data(form, document, [document], [splits, areas])
    if form is Format.TABLE:
        kept = [one for one in report.layers if one.layer in made.tensors]
        print("\n" + "\n".join(verdict(report, one, name) for one in kept))


def verdict(report: VectorReport, one: LayerReport, name: str) -> str:
    """What the figures of a layer say, in a sentence."""
    subject = f"{name} at {one.layer.replace('.', ' ')}"
    if not one.separation.beats_chance:
        return f"{subject} does not tell the two apart better than chance here: do not steer with it."
    if one.separation.interval[0] <= report.position.area:
        return (
            f"{subject} tells the two apart better than chance, but not clearly better than the token's position does: "
            "it may only count tokens."
        )
    return (
        f"{subject} tells the two apart better than chance, and better than the token's position does. Whether it "
        "steers is another question: compare it with its placebo (`forkpoint ab`)."
    )
