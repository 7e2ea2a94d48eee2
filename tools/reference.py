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
from fastapi.routing import APIRoute
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase
from typer.cli import get_docs_for_click
from typer.main import get_command

from forkpoint_clients.cli import ab, calibrate, experiments, findings, policies, watch
from forkpoint_policies.catalog import with_placebo
from forkpoint_policies.library import LIBRARY, Entry
from forkpoint_policies.library._entry import Number, Text
from forkpoint_server import metrics
from forkpoint_server.cli import own_arguments
from forkpoint_server.routes.calibration import calibration_router
from forkpoint_server.routes.experiments import experiments_router
from forkpoint_server.routes.forks import forks_router
from forkpoint_server.routes.policies import policies_router
from forkpoint_server.routes.viewer import viewer_router
from forkpoint_server.service import Service

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
COMMANDS: Mapping[str, typer.Typer] = {
    "policies": policies.application, "ab": ab.application, "findings": findings.application,
    "calibrate": calibrate.application, "experiments": experiments.application, "watch": watch.application,
}  # fmt: skip
"""The subcommands of `forkpoint` beside `serve`."""
UNKNOWN_SERVICE = cast(Service, None)
"""Routes ask it when they are called, and here none is."""


def policies_page() -> Iterator[str]:
    """The named policies: what each does, where it comes from, what is known against it, its parameters and its rules."""
    yield "What can be asked for by name, with the rules at their defaults. [Policies](../policies.md) explains the language and"
    yield "[placebos](../policies.md#placebos).\n"
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
    if entry.parameters:
        rows = ((f"`{name}`", _shown(one.default), _range(one), one.meaning) for name, one in entry.parameters.items())
        yield from _table(("parameter", "default", "can be", "what it is"), rows)
    if plain.match:
        yield f"`{entry.name}.placebo` is matched by {', by '.join(f'`{match}`' for match in plain.match)}.\n"
    else:
        yield "It has no placebo.\n"
    rules = [rule.model_dump(mode="json", exclude_unset=True) for rule in entry.policy.rules]
    text = ",\n".join("  " + json.dumps(rule, ensure_ascii=False) for rule in rules)
    yield f'```json\n{{"name": "{entry.name}", "rules": [\n{text}\n]}}\n```\n'


def _shown(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _range(parameter: Number | Text) -> str:
    if isinstance(parameter, Text):
        return f"a text of at least {parameter.fewest} characters" if parameter.fewest else "a text"
    other = f", or `{json.dumps(parameter.other)}`" if parameter.other is not None else ""
    return f"{parameter.low:,.10g} to {parameter.high:,.10g}{', whole' if parameter.whole else ''}{other}"


def metrics_page() -> Iterator[str]:
    """Forkpoint's metrics, with their labels and buckets."""
    yield "What stands on `GET /metrics` beside vLLM's. [Monitoring](../monitoring.md#metrics) says what the labels hold.\n"
    found = sorted(
        (
            (next(iter(metric.describe())), metric)
            for metric in vars(metrics).values()
            if isinstance(metric, MetricWrapperBase)
        ),
        key=lambda one: one[0].name,
    )
    yield from _table(
        ("metric", "type", "labels", "what"),
        (
            (
                f"`{one.name}{'_total' if one.type == 'counter' else ''}`",
                one.type,
                ", ".join(f"`{label}`" for label in metric._labelnames),
                one.documentation + _buckets(metric),
            )
            for one, metric in found
        ),
    )


def _buckets(metric: MetricWrapperBase) -> str:
    if not isinstance(metric, Histogram):
        return ""
    bounds = (bound for bound in metric._upper_bounds if bound != float("inf"))
    return f" Buckets up to {', '.join(f'{bound:g}' for bound in bounds)}."


def routes_page() -> Iterator[str]:
    """Forkpoint's own routes."""
    yield "What Forkpoint adds to vLLM's routes; [Serving](../serving.md#routes) tells what it changes in those. `/openapi.json`"
    yield "has all of them. Routes marked *admin* want the `--admin-api-key` where the server has one, the others its `--api-key`,"
    yield "and the viewer's page none.\n"
    routers: tuple[APIRouter, ...] = (
        policies_router(UNKNOWN_SERVICE, None), experiments_router(UNKNOWN_SERVICE, None), forks_router(UNKNOWN_SERVICE),
        calibration_router(UNKNOWN_SERVICE, None), viewer_router(),
    )  # fmt: skip
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    yield from _table(("route", "", "what"), (_route(route) for route in routes))


def _route(route: APIRoute) -> tuple[str, str, str]:
    (method,) = route.methods
    query = "&".join(f"{parameter.alias}=" for parameter in route.dependant.query_params)
    what = " ".join((route.endpoint.__doc__ or "").split())
    return f"`{method} {route.path}{'?' + query if query else ''}`", "admin" if route.dependencies else "", what


def commands_page() -> Iterator[str]:
    """The `forkpoint` command: every subcommand with its arguments."""
    yield "`forkpoint COMMAND --help` says the same.\n"
    yield "## `forkpoint serve`\n"
    yield "`forkpoint serve [MODEL] [ARGUMENTS]…` serves the embedded model, or MODEL. It takes vLLM's arguments, and:\n"
    own = ArgumentParser(add_help=False)
    own_arguments(own)
    rows = []
    for action in own._actions:
        name = " ".join([*action.option_strings, *([str(action.metavar)] if action.metavar else [])])
        rows.append((f"`{name}`", (action.help or "") % {"default": action.default}))
    yield from _table(("argument", "what"), rows)
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
}


def page(name: str) -> str:
    """A page of the reference, as its file holds it."""
    title, lines = PAGES[name]
    said = "\n".join(lines()).rstrip()
    return f"<!-- Written by `make reference` from the code: change that. -->\n# {title}\n\n{said}\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        (FOLDER / f"{name}.md").write_text(page(name))
