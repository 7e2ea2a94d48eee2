"""`forkpoint experiments …`: shows and changes experiments on a server's live traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forkpoint_clients.server_address import DEFAULT_URL

from .options import ApiKey, Server
from .output import Format, FormatOption
from .running import app, completion_of, or_list, run_app

application = app("Experiments on a server's live traffic.")
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint experiments …`. Returns the exit status."""
    return run_app(application, "experiments", or_list(arguments))


@application.command("list")
def list_experiments(server: Server = DEFAULT_URL, api_key: ApiKey = "none", form: FormatOption = Format.TABLE) -> None:
    """All experiments."""
    from forkpoint_clients.commands import experiments

    experiments.print_list(server, api_key, form)


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
    form: FormatOption = Format.TABLE,
) -> None:
    """One experiment: its arms, its figures and what they say so far."""
    from forkpoint_clients.commands import experiments

    experiments.print_experiment(name, effect or (), server, api_key, form)


@application.command()
def create(
    file: Annotated[Path, typer.Argument(help="YAML or JSON: name, unit, arms with name, policy and weight, metrics")],
    server: Server = DEFAULT_URL,
    api_key: ApiKey = "none",
) -> None:
    """Define an experiment by a file."""
    from forkpoint_clients.commands import experiments

    experiments.create(file, server, api_key)


@application.command()
def pause(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Assign no more requests until `resume`."""
    from forkpoint_clients.commands import experiments

    experiments.change(name, {"status": "paused"}, server, api_key)


@application.command()
def resume(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Assign requests again: each unit to the arm that it had."""
    from forkpoint_clients.commands import experiments

    experiments.change(name, {"status": "running"}, server, api_key)


@application.command()
def stop(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """End an experiment; its figures stay."""
    from forkpoint_clients.commands import experiments

    experiments.change(name, {"status": "stopped"}, server, api_key)


@application.command()
def ramp(name: str, arm: str, weight: float, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Give an arm a larger share of all units, 0 to 1; a running experiment's shares only grow."""
    from forkpoint_clients.commands import experiments

    experiments.change(name, {"arms": [{"name": arm, "weight": weight}]}, server, api_key)


@application.command()
def delete(name: str, server: Server = DEFAULT_URL, api_key: ApiKey = "none") -> None:
    """Delete an experiment that does not run, with all that was recorded."""
    from forkpoint_clients.commands import experiments

    experiments.delete(name, server, api_key)
