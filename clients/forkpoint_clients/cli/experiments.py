"""`forkpoint experiments …`: shows and changes experiments on a server's live traffic."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from rich.console import Console
from rich.table import Table

from forkpoint_clients.client import DEFAULT_URL, Forkpoint
from forkpoint_clients.evaluate.asker import error_message
from forkpoint_clients.evaluate.formatting import MINUS, UNKNOWN, p_value
from forkpoint_clients.types import Experiment
from forkpoint_clients.yaml_file import YamlError, read_yaml

from .options import ApiKey, Server
from .running import app, fail, or_list, run_app

NAME = "experiments"
SHARE = {"error", "truncated"}
"""Metrics of 0 or 1, whose means are shares."""

application = app("Experiments on a server's live traffic.")


def main(arguments: list[str]) -> int:
    """Run `forkpoint experiments …`. Returns the exit status."""
    return run_app(application, NAME, or_list(arguments))


@application.command("list")
def list_experiments(server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """All experiments."""
    with _client(server, api_key) as client:
        listed = list(client.experiments.list())
    if not listed:
        print("there are no experiments; `forkpoint experiments create FILE` makes one")
        return
    table = Table("name", "status", "unit", "arms", "description")
    for experiment in listed:
        arms = ", ".join(f"{arm.name} {arm.weight:.0%}{_paused(arm.status)}" for arm in experiment.arms)
        table.add_row(experiment.name, _status(experiment), experiment.unit, arms, experiment.description)
    Console().print(table)


@application.command()
def show(
    name: str,
    effect: Annotated[
        list[str] | None,
        typer.Option(
            "--effect",
            metavar="METRIC:SIZE",
            help="say how many more requests show an effect of this size; several times",
        ),
    ] = None,
    server: Server = DEFAULT_URL,
    api_key: ApiKey = "none",
) -> None:
    """One experiment: its arms, its figures and what they say so far."""
    effects = dict(_effect(text) for text in effect or ())
    with _client(server, api_key) as client:
        _show(client.experiments.get(name, effects), effects)


@application.command()
def create(
    file: Annotated[Path, typer.Argument(help="YAML or JSON: name, unit, arms with name, policy and weight, metrics")],
    server: Server = DEFAULT_URL,
    api_key: ApiKey = "none",
) -> None:
    """Define an experiment by a file."""
    try:
        definition = read_yaml(file)
    except YamlError as error:
        raise fail(NAME, error) from None
    if not isinstance(definition, dict):
        raise fail(NAME, f"{file} must hold an object with `name` and `arms`, not {type(definition).__name__}")
    with _client(server, api_key) as client:
        _print_status(client.experiments.create(definition))


@application.command()
def pause(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Assign no more requests until `resume`."""
    _change(name, {"status": "paused"}, server, api_key)


@application.command()
def resume(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Assign requests again: each unit to the arm that it had."""
    _change(name, {"status": "running"}, server, api_key)


@application.command()
def stop(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """End an experiment; its figures stay."""
    _change(name, {"status": "stopped"}, server, api_key)


@application.command()
def ramp(name: str, arm: str, weight: float, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Give an arm a larger share of all units, 0 to 1; a running experiment's shares only grow."""
    _change(name, {"arms": [{"name": arm, "weight": weight}]}, server, api_key)


@application.command()
def delete(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Delete an experiment that does not run, with all that was recorded."""
    with _client(server, api_key) as client:
        print(f"{client.experiments.delete(name).name} is deleted")


def _change(name: str, change: Mapping[str, Any], server: str, api_key: str) -> None:
    with _client(server, api_key) as client:
        _print_status(client.experiments.update(name, change))


@contextlib.contextmanager
def _client(server: str, api_key: str) -> Iterator[Forkpoint]:
    """A client whose errors end the command with the server's message."""
    try:
        with Forkpoint(base_url=server, api_key=api_key) as client:
            yield client
    except openai.OpenAIError as error:
        raise fail(NAME, error_message(error)) from None


def _print_status(experiment: Experiment) -> None:
    arms = ", ".join(f"{arm.name} {arm.weight:.1%}{_paused(arm.status)}" for arm in experiment.arms)
    print(f"{experiment.name} is {_status(experiment)}: {arms}")


def _status(experiment: Experiment) -> str:
    return f"{experiment.status} (not here: {experiment.problem})" if experiment.problem else experiment.status


def _paused(status: str) -> str:
    return " (paused)" if status == "paused" else ""


def _effect(text: str) -> tuple[str, float]:
    metric, _, size = text.rpartition(":")
    try:
        value = float(size)
    except ValueError:
        value = math.nan
    if not metric or not math.isfinite(value) or value <= 0:
        raise fail(NAME, f"--effect must be METRIC:SIZE, as in correct:0.05, not {text!r}")
    return metric, value


def _show(experiment: Experiment, effects: Mapping[str, float]) -> None:
    console = Console()
    _print_status(experiment)
    # arms
    counts = {count.arm: count for count in experiment.figures or ()}
    arms = Table("arm", "policy", "weight", "requests", "units", title="Arms")
    for arm in experiment.arms:
        inline = f"inline, {arm.digest}"
        policy = "none" if arm.policy is None else arm.policy if isinstance(arm.policy, str) else inline
        here = counts.get(arm.name)
        control = " (control)" if arm.name == experiment.control else ""
        named = f"{arm.name}{control}{' (shadow)' if arm.shadow else ''}{_paused(arm.status)}"
        requests, units = (str(here.requests), str(here.units)) if here is not None else (UNKNOWN, UNKNOWN)
        arms.add_row(named, policy, f"{arm.weight:.1%}", requests, units)
    console.print(arms)
    if experiment.analysis is None:
        return
    # verdict
    ratio = experiment.analysis.get("sample_ratio") or {}
    if ratio.get("passed") is False:
        console.print(
            "The arms' numbers of units do not match their weights: no verdict can be trusted.", style="bold red"
        )
        console.print(str(ratio.get("reason") or f"p = {p_value(ratio.get('p_value'))}"), markup=False)
    elif experiment.analysis.get("verdict"):
        console.print(str(experiment.analysis["verdict"]), style="bold", markup=False)
    # metrics, and what is worth knowing about them
    console.print(_metrics(experiment))
    for note in _requests_needed(experiment, effects):
        console.print(note, markup=False, highlight=False)
    for warning in _warnings(experiment):
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _metric_analyses(experiment: Experiment) -> Mapping[str, Any]:
    """The analysis of each metric, by name."""
    analyses: Mapping[str, Any] = (experiment.analysis or {}).get("metrics") or {}
    return analyses


def _requests_needed(experiment: Experiment, effects: Mapping[str, float]) -> Iterator[str]:
    """How many more requests it takes to detect the effects of `--effect`."""
    analyses = _metric_analyses(experiment)
    for metric, size in effects.items():
        if metric not in analyses:
            yield f"{metric}: the experiment has no such metric; it has {', '.join(analyses)}"
            continue
        for arm, figures in analyses[metric]["arms"].items():
            if "difference" in figures:
                more = (figures["difference"].get("more_requests") or {}).get("requests")
                count = (
                    "not enough data yet to say how many more requests show"
                    if more is None
                    else f"{more:,} more requests show"
                )
                yield f"{metric} of {arm}: {count} an effect of {size:g} with a probability of 80 %"


def _warnings(experiment: Experiment) -> Iterator[str]:
    yield from (experiment.analysis or {}).get("warnings") or ()
    for metric, about in _metric_analyses(experiment).items():
        if about.get("warning"):
            yield f"{metric}: {about['warning']}"


def _metrics(experiment: Experiment) -> Table:
    table = Table("metric", "role", "arm", "mean", "difference, always valid", "p (Holm)", "says", title="Metrics")
    for metric, about in _metric_analyses(experiment).items():
        for arm, figures in about["arms"].items():
            difference = figures.get("difference") or {}
            table.add_row(
                metric, str(about.get("role", "")), arm,
                _figure(metric, figures.get("mean"), figures.get("interval")),
                _figure(metric, difference.get("estimate"), difference.get("interval"), "+"),
                p_value(difference.get("p_value_holm")) if difference else "",
                str(difference.get("text") or difference.get("verdict") or ""),
            )  # fmt: skip
    return table


def _figure(metric: str, value: float | None, interval: Sequence[float | None] | None, sign: str = "") -> str:
    if value is None:
        return "" if sign else UNKNOWN
    form, unit = (f"{{:{sign}.1%}}", "") if metric in SHARE else (f"{{:{sign}.4g}}", "")
    text = form.format(value) + unit
    if interval and interval[0] is not None and interval[1] is not None:
        text += f" [{form.format(interval[0])}, {form.format(interval[1])}]"
    return text.replace("-", MINUS)
