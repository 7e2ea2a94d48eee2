"""`forkpoint steer fit`: fits a vector for `steer` to the served model's hidden states where two conditions hold."""

from __future__ import annotations

from typing import Annotated

import typer

from forkpoint_clients.evaluate import datasets
from forkpoint_clients.server_address import DEFAULT_URL
from forkpoint_policies.hidden.fit_vector import Method

from .fitting import (
    AT_SENTENCE_ENDS,
    At,
    Concurrency,
    Data,
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
)
from .options import ApiKey, Server
from .output import Format, FormatOption
from .running import app, completion_of, run_app

application = app("Vectors for `steer`, fitted to the served model's hidden states.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint steer …`; the exit status."""
    return run_app(application, "steer", arguments)


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
    from forkpoint_clients.commands.fitting import Destination, condition, plain_errors, run
    from forkpoint_clients.commands.steer import fitting_of, layer_numbers
    from forkpoint_clients.evaluate.asker import Asker, SamplingParams
    from forkpoint_clients.fitting.collect import Setting
    from forkpoint_clients.fitting.conditions import Labels
    from forkpoint_policies.hidden.artefact import check_artefact_name
    from forkpoint_policies.spec import InputError

    with plain_errors("steer fit"):
        check_artefact_name(name, "NAME")
        if not positive and not negative:
            raise InputError("--positive", "or --negative must be given: a condition, as JSON")
        labels = Labels(
            condition(at, "--at"),
            condition(positive, "--positive") if positive else None,
            condition(negative, "--negative") if negative else None,
            ahead,
        )
        wanted, kept = layer_numbers(layers, "--layers"), layer_numbers(keep, "--keep")
        items = datasets.read(data, questions, seed)
        sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
        setting = Setting(items, labels.when, wanted, samples, seed, sampling, max_states, concurrency)
        destination = Destination(name, out, store)
        fitting = fitting_of(setting, labels, kept, method, data, held_out, placebos, scale, source, destination, form)
        run(Asker(server, model or "", api_key=api_key, concurrency=concurrency), fitting)
