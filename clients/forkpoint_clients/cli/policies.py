"""`forkpoint policies [list | show NAME | validate FILE | schema]`, with or without a server."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import openai
import typer
from rich.table import Table
from rich.text import Text

from forkpoint_clients.client import Forkpoint
from forkpoint_clients.evaluate.asker import error_message
from forkpoint_clients.evaluate.doses import PLACEBO
from forkpoint_policies.catalog import Named, library
from forkpoint_policies.spec import SCHEMA, InputError, parse_policy, unknown_name
from forkpoint_policies.spec.yaml_file import YamlError, read_yaml

from .options import ApiKey, MaybeServer
from .output import Format, FormatOption, print_data
from .running import app, completion_of, fail, or_list, run_app

NAME = "policies"

application = app("Look at policies, and check your own.", no_args_is_help=False)
complete = completion_of(application)


def main(arguments: list[str]) -> int:
    """Run `forkpoint policies …`. Returns the exit status."""
    return run_app(application, NAME, or_list(arguments))


@application.command("list")
def list_policies(
    server: MaybeServer = None,
    api_key: ApiKey = "none",
    placebos: Annotated[bool, typer.Option("--placebos", help="list the placebo of each policy, too")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """The policies that requests can use by name."""
    with _errors():
        known = [one for one in _known(server, api_key) if placebos or not one["name"].endswith(PLACEBO)]
    table = Table("name", "action", "parameters", "source", "description")
    records = [_summary(policy) for policy in known]
    for record in records:
        table.add_row(*(Text(str(value)) for value in record.values()))
    print_data(form, known, records, [table])


@application.command()
def show(name: str, server: MaybeServer = None, api_key: ApiKey = "none", form: FormatOption = Format.TABLE) -> None:
    """One policy: its rules and parameters, its source, and the limits of its evidence."""
    with _errors():
        known = {policy["name"]: policy for policy in _known(server, api_key)}
        if name not in known:
            raise InputError("NAME", unknown_name("policy", name, known, "`forkpoint policies list`"))
        policy = known[name]
    print_data(form, policy, [policy], [_fields(policy)])


@application.command()
def validate(
    file: Path, server: MaybeServer = None, api_key: ApiKey = "none", form: FormatOption = Format.TABLE
) -> None:
    """Check a YAML or JSON file with a policy; with a server, also how the served model tokenizes its words."""
    with _errors():
        data = read_yaml(file)
        policy = parse_policy(data, f"{file}: policy")
        if server is None:
            found: dict[str, Any] = {"valid": True, **Named(policy).to_dict()}
        else:
            with Forkpoint(base_url=server, api_key=api_key) as client:
                found = client.policies.validate(data).to_dict()
    if form is Format.TABLE:
        print(_verdict(found))
    else:
        print_data(form, found, [found], [_fields(found)])


def _verdict(found: Mapping[str, Any]) -> str:
    """A validation in a few lines."""
    rules = found.get("rules") or []
    tokens = {token for rule in rules for token in rule.get("token_ids", ())}
    actions = ", ".join(dict.fromkeys(rule["action"] for rule in rules if "action" in rule))
    matched = f" ({actions}; the words match {len(tokens)} tokens)" if tokens else f" ({actions})" if actions else ""
    lines = [f"valid: {found['name']}, {len(rules)} rule{'s' * (len(rules) != 1)}{matched}, digest {found['digest']}"]
    lines += [f"warning: {warning}" for warning in found.get("warnings") or ()]
    return "\n".join(lines)


@application.command()
def schema() -> None:
    """The policy language as a JSON Schema."""
    print(SCHEMA.read_text(), end="")


def _known(server: str | None, api_key: str) -> list[dict[str, Any]]:
    if server is None:
        return [named.to_dict() for named in library()]
    with Forkpoint(base_url=server, api_key=api_key) as client:
        return [policy.to_dict(exclude_unset=False) for policy in client.policies.list()]


def _summary(policy: Mapping[str, Any]) -> dict[str, str]:
    """A policy's row of the list."""
    actions = dict.fromkeys(action for rule in policy.get("rules") or () for action in rule.get("do") or {})
    return {
        "name": policy["name"],
        "action": ", ".join(actions),
        "parameters": ", ".join(policy.get("parameters") or {}),
        "source": policy.get("source") or "",
        "description": policy.get("description") or "",
    }


def _fields(record: Mapping[str, Any]) -> Table:
    """A record as a table of its fields; what is not a text is JSON."""
    table = Table("field", "value")
    for name, value in record.items():
        table.add_row(name, Text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return table


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except openai.OpenAIError as error:
        raise fail(NAME, error_message(error)) from None
    except (InputError, YamlError) as error:
        raise fail(NAME, error) from None
