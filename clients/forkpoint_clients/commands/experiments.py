"""What `forkpoint experiments` does: shows and changes experiments on a server's live traffic."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
from rich.table import Table

from forkpoint_clients.cli.output import Format, print_data, print_tables
from forkpoint_clients.cli.running import fail
from forkpoint_clients.client import Forkpoint
from forkpoint_clients.evaluate.asker import error_message
from forkpoint_clients.evaluate.formatting import MINUS, UNKNOWN, p_value
from forkpoint_clients.types import Experiment
from forkpoint_policies.spec.yaml_file import YamlError, read_yaml

NAME = "experiments"
SHARE = {"error", "truncated"}
"""Metrics of 0 or 1, whose means are shares."""


def print_list(server: str, api_key: str, form: Format) -> None:
    """Print a row for each experiment."""
    with _client(server, api_key) as client:
        listed = list(client.experiments.list())
    if not listed and form is Format.TABLE:
        print("there are no experiments; `forkpoint experiments create FILE` makes one")
        return
    table = Table("name", "status", "unit", "arms", "description")
    for experiment in listed:
        arms = ", ".join(f"{arm.name} {arm.weight:.0%}{_paused(arm.status)}" for arm in experiment.arms)
        table.add_row(experiment.name, _status(experiment), experiment.unit, arms, experiment.description)
    data = [experiment.to_dict() for experiment in listed]
    print_data(form, data, data, [table])


def print_experiment(name: str, effect: Sequence[str], server: str, api_key: str, form: Format) -> None:
    """Print an experiment's arms and figures. `effect` are METRIC:SIZE, for which it says how many requests show it."""
    effects = dict(_effect(text) for text in effect)
    with _client(server, api_key) as client:
        experiment = client.experiments.get(name, effects)
    if form is Format.TABLE:
        _show(experiment, effects)
    else:
        tables = [_arms(experiment), *([_metrics(experiment)] if experiment.analysis is not None else [])]
        print_data(form, experiment.to_dict(), list(_records(experiment)), tables)


def create(file: Path, server: str, api_key: str) -> None:
    """Define an experiment by a file."""
    try:
        definition = read_yaml(file)
    except YamlError as error:
        raise fail(NAME, error) from None
    if not isinstance(definition, dict):
        raise fail(NAME, f"{file} must hold an object with `name` and `arms`, not {type(definition).__name__}")
    with _client(server, api_key) as client:
        _print_status(client.experiments.create(definition))


def change(name: str, changes: Mapping[str, Any], server: str, api_key: str) -> None:
    """Change an experiment, and print how it is then."""
    with _client(server, api_key) as client:
        _print_status(client.experiments.update(name, changes))


def delete(name: str, server: str, api_key: str) -> None:
    """Delete an experiment, with all that was recorded."""
    with _client(server, api_key) as client:
        print(f"{client.experiments.delete(name).name} is deleted")


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
    _print_status(experiment)
    print_tables([_arms(experiment)])
    if experiment.analysis is None:
        return
    # verdict
    ratio = experiment.analysis.get("sample_ratio") or {}
    if ratio.get("passed") is False:
        print("The arms' numbers of units do not match their weights: no verdict can be trusted.")
        print(ratio.get("reason") or f"p = {p_value(ratio.get('p_value'))}")
    elif experiment.analysis.get("verdict"):
        print(experiment.analysis["verdict"])
    # metrics, and what is worth knowing about them
    for reason, where in _reasons(experiment).items():
        print(f"{', '.join(where)}: {reason}")
    print_tables([_metrics(experiment), *_beside_placebos(experiment)])
    for note in _requests_needed(experiment, effects):
        print(note)
    for warning in _warnings(experiment):
        print(f"warning: {warning}")


def _arms(experiment: Experiment) -> Table:
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
    return arms


def _records(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """A record for each metric of each arm."""
    for metric, about in _metric_analyses(experiment).items():
        for arm, figures in about["arms"].items():
            yield {"metric": metric, "role": about.get("role", ""), "arm": arm, **figures}


def _reasons(experiment: Experiment) -> dict[str, list[str]]:
    """Why metrics say what they say, each reason once, with the metrics and arms that it is about."""
    reasons: dict[str, list[str]] = {}
    for record in _records(experiment):
        difference = record.get("difference") or {}
        says, text = _says(difference), str(difference.get("text") or "")
        if reason := text.removeprefix(says).strip(":; "):
            reasons.setdefault(reason, []).append(f"{record['metric']} of {record['arm']}")
    return reasons


def _says(difference: Mapping[str, Any]) -> str:
    """The verdict on a difference, without its reason."""
    return str(difference.get("verdict") or difference.get("text") or "")


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
                yield f"{metric} of {arm}: {count} an effect of {size:g} with a probability of 80%"


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
                _says(difference),
            )  # fmt: skip
    return table


def _beside_placebos(experiment: Experiment) -> Iterator[Table]:
    """A table of the arms that stand beside their placebos, if any do."""
    if not experiment.placebos:
        return
    decisive = [metric for metric, about in _metric_analyses(experiment).items() if about.get("role") == "decision"]
    columns = ("arm", "its placebo", "effect per token", "that of the placebo", "dose ratio")
    less = (f"{metric}, less the placebo's" for metric in decisive)
    table = Table(*columns, *less, "conclusion", title="Policies beside their placebos")
    for pair in experiment.placebos:
        differences = (pair.metrics.get(metric) or {} for metric in decisive)
        table.add_row(
            pair.arm, pair.placebo,
            *(UNKNOWN if dose is None else f"{dose:.3g}" for dose in (pair.dose, pair.placebo_dose)),
            UNKNOWN if pair.ratio is None else f"{pair.ratio:.2f}",
            *(
                _figure(metric, difference.get("estimate"), difference.get("interval"), "+")
                for metric, difference in zip(decisive, differences, strict=True)
            ),
            pair.conclusion or "",
        )  # fmt: skip
    yield table


def _figure(metric: str, value: float | None, interval: Sequence[float | None] | None, sign: str = "") -> str:
    if value is None:
        return "" if sign else UNKNOWN
    form, unit = (f"{{:{sign}.1%}}", "") if metric in SHARE else (f"{{:{sign}.4g}}", "")
    text = form.format(value) + unit
    if interval and interval[0] is not None and interval[1] is not None:
        text += f" [{form.format(interval[0])}, {form.format(interval[1])}]"
    return text.replace("-", MINUS)
