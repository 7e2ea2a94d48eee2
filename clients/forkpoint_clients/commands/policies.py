"""What `forkpoint policies` does: lists and shows policies, and checks a file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
from rich.table import Table
from rich.text import Text

from forkpoint_clients.cli.output import Format, print_data
from forkpoint_clients.cli.running import fail
from forkpoint_clients.client import Forkpoint
from forkpoint_clients.evaluate.asker import error_message
from forkpoint_clients.evaluate.doses import PLACEBO
from forkpoint_policies.catalog import Named, library
from forkpoint_policies.spec import InputError, parse_policy, unknown_name
from forkpoint_policies.spec.yaml_file import YamlError, read_yaml

NAME = "policies"


def print_list(server: str | None, api_key: str, placebos: bool, form: Format) -> None:
    """Print the policies of the library, or of a server."""
    with _errors():
        known = [one for one in _known(server, api_key) if placebos or not one["name"].endswith(PLACEBO)]
    table = Table("name", "action", "parameters", "source", "description")
    records = [_summary(policy) for policy in known]
    for record in records:
        table.add_row(*(Text(str(value)) for value in record.values()))
    print_data(form, known, records, [table])


def print_policy(name: str, server: str | None, api_key: str, form: Format) -> None:
    """Print all fields of a policy."""
    with _errors():
        known = {policy["name"]: policy for policy in _known(server, api_key)}
        if name not in known:
            raise InputError("NAME", unknown_name("policy", name, known, "`forkpoint policies list`"))
        policy = known[name]
    print_data(form, policy, [policy], [_fields(policy)])


def print_validation(file: Path, server: str | None, api_key: str, form: Format) -> None:
    """Print whether a file's policy is valid, and with a server how the served model tokenizes its words."""
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
