"""`forkpoint experiments …`: look at experiments on a server's live traffic, and change them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
import yaml
from rich.console import Console
from rich.table import Table

from forkpoint_clients.client import DEFAULT_URL, Forkpoint
from forkpoint_clients.evaluate.asker import told
from forkpoint_clients.evaluate.formatting import MINUS, UNKNOWN, p_value
from forkpoint_clients.types import Experiment

from .options import ApiKey, Server
from .running import app, fail, or_list, run_app

NAME = "experiments"
SHARE = {"error", "truncated"}
"""Metrics of 0 and 1, whose means are shares."""

application = app("Experiments on a server's live traffic.")


def main(arguments: list[str]) -> int:
    """Run `forkpoint experiments …`; the exit status."""
    return run_app(application, NAME, or_list(arguments))


@application.command("list")
def list_experiments(server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """All experiments."""
    with _asking(server, api_key) as client:
        found = list(client.experiments.list())
    if not found:
        print("there are no experiments; `forkpoint experiments create FILE` makes one")
        return
    table = Table("name", "status", "unit", "arms", "description")
    for one in found:
        arms = ", ".join(f"{arm.name} {arm.weight:.0%}{_paused(arm.status)}" for arm in one.arms)
        table.add_row(one.name, _status(one), one.unit, arms, one.description)
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
    with _asking(server, api_key) as client:
        _show(client.experiments.get(name, effects), effects)


@application.command()
def create(
    file: Annotated[Path, typer.Argument(help="YAML or JSON: name, unit, arms with name, policy and weight, metrics")],
    server: Server = DEFAULT_URL,
    api_key: ApiKey = "none",
) -> None:
    """Define an experiment by a file."""
    try:
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise fail(NAME, f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(definition, dict):
        raise fail(NAME, f"{file} must hold an object with `name` and `arms`, not {type(definition).__name__}")
    with _asking(server, api_key) as client:
        _said(client.experiments.create(definition))


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
    with _asking(server, api_key) as client:
        print(f"{client.experiments.delete(name).name} is deleted")


def _change(name: str, change: Mapping[str, Any], server: str, api_key: str) -> None:
    with _asking(server, api_key) as client:
        _said(client.experiments.update(name, change))


@contextlib.contextmanager
def _asking(server: str, api_key: str) -> Iterator[Forkpoint]:
    """A client, whose errors end the command with the server's words."""
    try:
        with Forkpoint(base_url=server, api_key=api_key) as client:
            yield client
    except openai.OpenAIError as error:
        raise fail(NAME, told(error)) from None


def _said(one: Experiment) -> None:
    arms = ", ".join(f"{arm.name} {arm.weight:.1%}{_paused(arm.status)}" for arm in one.arms)
    print(f"{one.name} is {_status(one)}: {arms}")


def _status(one: Experiment) -> str:
    return f"{one.status} (not here: {one.problem})" if one.problem else one.status


def _paused(status: str) -> str:
    return " (paused)" if status == "paused" else ""


def _effect(text: str) -> tuple[str, float]:
    metric, _, size = text.rpartition(":")
    try:
        found = float(size)
    except ValueError:
        found = math.nan
    if not metric or not math.isfinite(found) or found <= 0:
        raise fail(NAME, f"--effect must be METRIC:SIZE, as in correct:0.05, not {text!r}")
    return metric, found


def _show(one: Experiment, effects: Mapping[str, float]) -> None:
    console = Console()
    _said(one)
    counts = {count.arm: count for count in one.figures or ()}
    arms = Table("arm", "policy", "weight", "requests", "units", title="Arms")
    for arm in one.arms:
        policy = (
            "none" if arm.policy is None else arm.policy if isinstance(arm.policy, str) else f"inline, {arm.digest}"
        )
        here = counts.get(arm.name)
        named = f"{arm.name}{' (control)' if arm.name == one.control else ''}{' (shadow)' if arm.shadow else ''}{_paused(arm.status)}"
        requests, units = (str(here.requests), str(here.units)) if here is not None else (UNKNOWN, UNKNOWN)
        arms.add_row(named, policy, f"{arm.weight:.1%}", requests, units)
    console.print(arms)
    if one.analysis is None:
        return
    ratio = one.analysis.get("sample_ratio") or {}
    if ratio.get("passed") is False:
        console.print(
            "The arms' numbers of units are not those of their weights: no verdict can be trusted.", style="bold red"
        )
        console.print(str(ratio.get("reason") or f"p = {p_value(ratio.get('p_value'))}"), markup=False)
    elif one.analysis.get("verdict"):
        console.print(str(one.analysis["verdict"]), style="bold", markup=False)
    console.print(_metrics(one))
    for said in _needed(one, effects):
        console.print(said, markup=False, highlight=False)
    for warning in _warnings(one):
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _of(one: Experiment) -> Mapping[str, Any]:
    """The analysis of each metric."""
    found: Mapping[str, Any] = (one.analysis or {}).get("metrics") or {}
    return found


def _needed(one: Experiment, effects: Mapping[str, float]) -> Iterator[str]:
    """How many more requests it takes to see the effects that were asked for."""
    for metric, size in effects.items():
        if metric not in _of(one):
            yield f"{metric}: the experiment has no such metric; it has {', '.join(_of(one))}"
            continue
        for arm, figures in _of(one)[metric]["arms"].items():
            if "difference" in figures:
                more = (figures["difference"].get("more_requests") or {}).get("requests")
                told = (
                    "too little is known yet to say how many more requests show"
                    if more is None
                    else f"{more:,} more requests show"
                )
                yield f"{metric} of {arm}: {told} an effect of {size:g} with a probability of 80 %"


def _warnings(one: Experiment) -> Iterator[str]:
    yield from (one.analysis or {}).get("warnings") or ()
    for metric, about in _of(one).items():
        if about.get("warning"):
            yield f"{metric}: {about['warning']}"


def _metrics(one: Experiment) -> Table:
    table = Table("metric", "role", "arm", "mean", "difference, always valid", "p (Holm)", "says", title="Metrics")
    for metric, about in _of(one).items():
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
    told_value = form.format(value) + unit
    if interval and interval[0] is not None and interval[1] is not None:
        told_value += f" [{form.format(interval[0])}, {form.format(interval[1])}]"
    return told_value.replace("-", MINUS)
