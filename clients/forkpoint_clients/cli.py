"""`forkpoint policies [list | show NAME | validate FILE | schema]`, with a server and without one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import openai
import yaml
from forkpoint_policies.named import Named, library
from forkpoint_policies.spec import SCHEMA, PolicyError, parse_policy

from .client import Forkpoint


def policies(arguments: list[str]) -> int:
    """Run `forkpoint policies …`; the exit status."""
    parser = argparse.ArgumentParser(prog="forkpoint policies", description="Look at policies, and check your own.")
    connection = argparse.ArgumentParser(add_help=False)
    connection.add_argument("--server", metavar="URL", help="ask this server, as in http://127.0.0.1:8000/v1")
    connection.add_argument("--api-key", default="none", help="the server's API key")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("list", parents=[connection], help="the policies one can ask for by name")
    show = commands.add_parser("show", parents=[connection], help="one policy as JSON")
    show.add_argument("name")
    validate = commands.add_parser("validate", parents=[connection], help="check a YAML or JSON file that holds a policy")
    validate.add_argument("file", type=Path)
    commands.add_parser("schema", help="the policy language as a JSON Schema")
    parsed = parser.parse_args(arguments or ["list"])
    if parsed.command == "schema":
        print(SCHEMA.read_text(), end="")
        return 0
    client = Forkpoint(base_url=parsed.server, api_key=parsed.api_key) if parsed.server else None
    try:
        if parsed.command == "list":
            for policy in _known(client):
                print(f"{policy['name']:24}{policy['description']}")
        elif parsed.command == "show":
            _print(_shown(parsed.name, client))
        else:
            _print(_validated(parsed.file, client))
    except (PolicyError, openai.OpenAIError) as error:
        print(f"forkpoint policies: {_message(error)}", file=sys.stderr)
        return 1
    return 0


def _known(client: Forkpoint | None) -> list[dict[str, Any]]:
    return client.policies() if client else [named.described() for named in library()]


def _shown(name: str, client: Forkpoint | None) -> dict[str, Any]:
    known = {policy["name"]: policy for policy in _known(client)}
    if name not in known:
        raise PolicyError("NAME", f"there is no policy {name!r}; there are {', '.join(known)}")
    return known[name]


def _validated(file: Path, client: Forkpoint | None) -> dict[str, Any]:
    """Without a server the language is checked; with one also what the served model's tokenizer makes of it."""
    try:
        data = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(str(file), f"cannot be read as YAML: {' '.join(str(error).split())}") from None
    policy = parse_policy(data, f"{file}: policy")
    return client.validate_policy(data) if client else {"valid": True, **Named(policy).described()}


def _print(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _message(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
        return str(error.body.get("message", error))
    return str(error)
