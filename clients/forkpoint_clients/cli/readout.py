"""`forkpoint readout fit`: fits a readout of the served model's hidden states to whether its answers are right."""

from __future__ import annotations

from typing import Annotated

import typer

from forkpoint_clients.evaluate import datasets
from forkpoint_clients.server_address import DEFAULT_URL

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

application = app("Readouts of the served model's hidden states.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint readout …`; the exit status."""
    return run_app(application, "readout", arguments)


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
    from forkpoint_clients.commands.fitting import Destination, condition, plain_errors, run
    from forkpoint_clients.commands.readout import fitting_of
    from forkpoint_clients.evaluate.asker import Asker, SamplingParams
    from forkpoint_clients.evaluate.scorers import scorer
    from forkpoint_clients.fitting.collect import Setting
    from forkpoint_clients.fitting.states import LAST_LAYER
    from forkpoint_policies.hidden.artefact import check_artefact_name

    with plain_errors("readout fit"):
        check_artefact_name(name, "NAME")
        when = condition(at, "--at")
        measure = scorer(score_by or datasets.default_scorer(data))
        items = datasets.read(data, questions, seed)
        measure.check(items)
        sampling = SamplingParams(max_tokens=max_tokens, temperature=temperature)
        setting = Setting(items, [when], [LAST_LAYER], samples, seed, sampling, max_states, concurrency)
        destination = Destination(name, out, store)
        fitting = fitting_of(setting, measure, data, held_out, placebos, threshold, source, destination, form)
        run(Asker(server, model or "", api_key=api_key, concurrency=concurrency), fitting)
