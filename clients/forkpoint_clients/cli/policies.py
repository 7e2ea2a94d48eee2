"""`forkpoint policies [list | show NAME | validate FILE | schema]`, with or without a server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai

from forkpoint_clients.client import Forkpoint
from forkpoint_clients.evaluate.asker import error_message
from forkpoint_clients.yaml_file import YamlError, read_yaml
from forkpoint_policies.catalog import Named, library
from forkpoint_policies.spec import SCHEMA, InputError, parse_policy

from .options import ApiKey, MaybeServer
from .running import app, fail, or_list, run_app

NAME = "policies"

application = app("Look at policies, and check your own.", no_args_is_help=False)


def main(arguments: list[str]) -> int:
    """Run `forkpoint policies …`. Returns the exit status."""
    return run_app(application, NAME, or_list(arguments))


@application.command("list")
def list_policies(server: MaybeServer = None, api_key: ApiKey = "none") -> None:
    """The policies that requests can use by name."""
    with _errors():
        for policy in _known(server, api_key):
            print(f"{policy['name']:24}{policy['description']}")


@application.command()
def show(name: str, server: MaybeServer = None, api_key: ApiKey = "none") -> None:
    """One policy as JSON."""
    with _errors():
        known = {policy["name"]: policy for policy in _known(server, api_key)}
        if name not in known:
            raise InputError("NAME", f"there is no policy {name!r}; there are {', '.join(known)}")
        _print(known[name])


@application.command()
def validate(file: Path, server: MaybeServer = None, api_key: ApiKey = "none") -> None:
    """Check a YAML or JSON file with a policy; with a server, also how the served model tokenizes its words."""
    with _errors():
        data = read_yaml(file)
        policy = parse_policy(data, f"{file}: policy")
        if server is None:
            _print({"valid": True, **Named(policy).to_dict()})
        else:
            _print(Forkpoint(base_url=server, api_key=api_key).policies.validate(data).to_dict())


@application.command()
def schema() -> None:
    """The policy language as a JSON Schema."""
    print(SCHEMA.read_text(), end="")


def _known(server: str | None, api_key: str) -> list[dict[str, Any]]:
    if server is None:
        return [named.to_dict() for named in library()]
    return [
        policy.to_dict(exclude_unset=False) for policy in Forkpoint(base_url=server, api_key=api_key).policies.list()
    ]


def _print(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except openai.OpenAIError as error:
        raise fail(NAME, error_message(error)) from None
    except (InputError, YamlError) as error:
        raise fail(NAME, error) from None
