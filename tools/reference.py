"""Writes the reference, docs/reference/*.md, from the code: `make reference`."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import typer
from fastapi import APIRouter
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.routing import APIRoute
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase
from typer.cli import get_docs_for_click
from typer.main import get_command

from forkpoint_clients.cli import ab, calibrate, evidence, experiments, findings, policies, readout, steer, watch
from forkpoint_policies.catalog import with_placebo
from forkpoint_policies.library import LIBRARY, Entry
from forkpoint_policies.library._entry import Number, Text
from forkpoint_server import metrics
from forkpoint_server.routes.calibration import calibration_router
from forkpoint_server.routes.experiments import experiments_router
from forkpoint_server.routes.forks import forks_router
from forkpoint_server.routes.policies import policies_router
from forkpoint_server.routes.states import states_router
from forkpoint_server.routes.vectors import vectors_router
from forkpoint_server.routes.viewer import viewer_router
from forkpoint_server.serve_arguments import own_arguments
from forkpoint_server.service import Service

from .python_reference import python_page

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
COMMANDS: Mapping[str, typer.Typer] = {
    "policies": policies.application, "ab": ab.application, "findings": findings.application,
    "evidence": evidence.application, "calibrate": calibrate.application, "experiments": experiments.application,
    "readout": readout.application, "steer": steer.application, "watch": watch.application,
}  # fmt: skip
"""The subcommands of `forkpoint` besides `serve`."""
UNKNOWN_SERVICE = cast(Service, None)
"""Routes use the service only when they are called, and here none is."""


def policies_page() -> Iterator[str]:
    """Yield the named policies: what each does, its source, its caution, its parameters and its rules."""
    yield "The policies available by name, with their rules at the defaults. [Policies](../policies.md) explains the"
    yield "language and [placebos](../policies.md#placebos).\n"
    yield from _table(
        ("policy", "what it does"), ((f"[`{name}`](#{name})", entry.description) for name, entry in LIBRARY.items())
    )
    for entry in LIBRARY.values():
        yield from _policy(entry)


def _policy(entry: Entry) -> Iterator[str]:
    plain = next(with_placebo(entry.policy, entry))
    yield f"## {entry.name}\n"
    source = re.sub(r"arXiv:([\d.]+\d)", r"[arXiv:\1](https://arxiv.org/abs/\1)", entry.source)
    yield f"{f'Source: {source}. ' if source else ''}{entry.caution}\n"
    if entry.compared:
        yield f"Compared with: {entry.compared}\n"
    if entry.parameters:
        rows = (
            (f"`{name}`", _code(parameter.default), _range(parameter), parameter.meaning)
            for name, parameter in entry.parameters.items()
        )
        yield from _table(("parameter", "default", "range", "meaning"), rows)
    if plain.match:
        yield f"`{entry.name}.placebo` is matched by {', by '.join(f'`{match}`' for match in plain.match)}.\n"
    else:
        yield "It has no placebo.\n"
    rules = [rule.model_dump(mode="json", exclude_unset=True) for rule in entry.policy.rules]
    text = ",\n".join("  " + json.dumps(rule, ensure_ascii=False) for rule in rules)
    yield f'```json\n{{"name": "{entry.name}", "rules": [\n{text}\n]}}\n```\n'


def _code(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _range(parameter: Number | Text) -> str:
    if isinstance(parameter, Text):
        return f"a text of at least {parameter.fewest} characters" if parameter.fewest else "a text"
    other = f", or `{json.dumps(parameter.other)}`" if parameter.other is not None else ""
    return f"{parameter.low:,.10g} to {parameter.high:,.10g}{', whole' if parameter.whole else ''}{other}"


def metrics_page() -> Iterator[str]:
    """Yield Forkpoint's metrics, with their labels and buckets."""
    yield "Our metrics on `GET /metrics`, beside vLLM's. [Monitoring](../monitoring.md#metrics) explains the labels.\n"
    declared = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    families = sorted(((next(iter(metric.describe())), metric) for metric in declared), key=lambda pair: pair[0].name)
    yield from _table(
        ("metric", "type", "labels", "meaning"),
        (
            (
                f"`{family.name}{'_total' if family.type == 'counter' else ''}`",
                family.type,
                ", ".join(f"`{label}`" for label in metric._labelnames),
                family.documentation + _buckets(metric),
            )
            for family, metric in families
        ),
    )


def _buckets(metric: MetricWrapperBase) -> str:
    if not isinstance(metric, Histogram):
        return ""
    bounds = (bound for bound in metric._upper_bounds if bound != float("inf"))
    return f" Buckets up to {', '.join(f'{bound:g}' for bound in bounds)}."


def routes_page() -> Iterator[str]:
    """Yield Forkpoint's own routes."""
    yield "The routes that Forkpoint adds to vLLM's; [Serving](../serving.md#routes) says what it changes in those."
    yield "`/openapi.json` lists them all. Routes marked *admin* require the `--admin-api-key` if the server has one,"
    yield "the others its `--api-key`, and the viewer's page neither.\n"
    routers: tuple[APIRouter, ...] = (
        policies_router(UNKNOWN_SERVICE, None),
        experiments_router(UNKNOWN_SERVICE, None),
        forks_router(UNKNOWN_SERVICE),
        calibration_router(UNKNOWN_SERVICE, None),
        vectors_router(UNKNOWN_SERVICE, None),
        states_router(UNKNOWN_SERVICE, None),
        viewer_router(),
    )
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    yield from _table(("route", "", "what it does"), (_route(route) for route in routes))


def _route(route: APIRoute) -> tuple[str, str, str]:
    (method,) = route.methods
    query = "&".join(f"{parameter.alias}=" for parameter in get_flat_dependant(route.dependant).query_params)
    what = " ".join((route.endpoint.__doc__ or "").split())
    return f"`{method} {route.path}{'?' + query if query else ''}`", "admin" if route.dependencies else "", what


def commands_page() -> Iterator[str]:
    """Yield the `forkpoint` command: every subcommand with its arguments."""
    yield "`forkpoint COMMAND --help` prints the same.\n"
    yield "## `forkpoint serve`\n"
    yield "`forkpoint serve [MODEL] [ARGUMENTS]…` serves the embedded model, or MODEL."
    yield "It accepts vLLM's arguments, and:\n"
    own = ArgumentParser(add_help=False)
    own_arguments(own)
    rows = []
    for action in own._actions:
        name = " ".join([*action.option_strings, *([str(action.metavar)] if action.metavar else [])])
        rows.append((f"`{name}`", (action.help or "") % {"default": action.default}))
    yield from _table(("argument", "meaning"), rows)
    for name, application in COMMANDS.items():
        command = get_command(application)
        yield (
            get_docs_for_click(obj=command, ctx=typer.Context(command), indent=1, name=f"forkpoint {name}").strip()
            + "\n"
        )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    head = tuple(head)
    for cells in (head, ("---",) * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
    yield ""


PAGES: Mapping[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "policies": ("Named policies", policies_page),
    "metrics": ("Metrics", metrics_page),
    "routes": ("Routes", routes_page),
    "commands": ("Command line", commands_page),
    "python": ("Python names", python_page),
}


def page(name: str) -> str:
    """Return a page of the reference, exactly as its file should be."""
    title, lines = PAGES[name]
    body = "\n".join(lines()).rstrip()
    return f"<!-- Generated from the code by `make reference`: do not edit. -->\n# {title}\n\n{body}\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / f"{name}.md").write_text(page(name))
