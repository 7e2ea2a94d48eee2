"""What is compared: an arm is a policy, or none, on a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from forkpoint_clients.evaluate.asker import NO_POLICY
from forkpoint_policies.catalog import library
from forkpoint_policies.spec import parse_policy

FILES = (".yaml", ".yml", ".json")


class ArmError(ValueError):
    """An arm that cannot be; the message says what would be right."""


@dataclass(frozen=True)
class Arm:
    """`policy` is a name, an object as the `policy` field takes it, or None; what is None of the rest is the run's own."""

    name: str
    policy: str | Mapping[str, Any] | None = None
    url: str | None = None
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @property
    def of_library(self) -> str | None:
        """The name of the library's policy that this is, perhaps with parameters or as a placebo."""
        name = self.policy.get("use") if isinstance(self.policy, Mapping) else self.policy
        return name if isinstance(name, str) and name in _cautions() else None

    @property
    def caution(self) -> str:
        """Where the evidence for the policy is weak, as the library has it."""
        return _cautions()[self.of_library] if self.of_library is not None else ""


def arm(text: str) -> Arm:
    """An arm as one writes it: `none`, `POLICY`, or `NAME=` and a policy's name, JSON or YAML file. Raises ArmError."""
    if text.startswith("{"):
        raise ArmError(f"the arm {text!r} has no name; write NAME={text}")
    name, equals, value = text.partition("=")
    if not name.strip() or (equals and not value.strip()):
        raise ArmError(f"the arm {text!r} must be a policy's name, or NAME=POLICY, NAME={{…}} or NAME=FILE.yaml")
    return Arm(name.strip(), _policy(name.strip(), value.strip() if equals else name.strip()))


def arms(
    texts: Sequence[str], urls: Sequence[str] = (), models: Sequence[str] = (), api_keys: Sequence[str] = ()
) -> tuple[Arm, ...]:
    """All arms of a run, the first being what others are compared with; then, as `NAME=VALUE`, what differs. Raises ArmError."""
    found: dict[str, Arm] = {}
    for text in texts:
        one = arm(text)
        if one.name in found:
            raise ArmError(f"two arms are called {one.name!r}; give one another name: NAME={text}")
        found[one.name] = one
    if not found:
        raise ArmError("there is no arm; give at least one, as in --arm none --arm nowait --arm nowait.placebo")
    for name, url in _of(urls, "--arm-url", found):
        found[name] = replace(found[name], url=url)
    for name, model in _of(models, "--arm-model", found):
        found[name] = replace(found[name], model=model)
    for name, key in _of(api_keys, "--arm-api-key", found):
        found[name] = replace(found[name], api_key=key)
    return tuple(found.values())


def _of(texts: Iterable[str], option: str, known: Mapping[str, Arm]) -> Iterable[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in known or not value:
            told = (
                f"{name!r} is none" if equals and name not in known else "a name and a value are needed"
            )  # values may be secret
            raise ArmError(f"{option} must be NAME=VALUE with an arm's name ({', '.join(known)}): {told}")
        yield name, value


def _policy(name: str, value: str) -> str | Mapping[str, Any] | None:
    if value == NO_POLICY:
        return None
    if value.startswith("{"):
        try:
            return _checked(json.loads(value))
        except ValueError as error:
            raise ArmError(f"the arm {name!r}: {_one_line(error)}") from None
    if value.endswith(FILES):
        try:
            return _checked(yaml.safe_load(Path(value).read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ArmError(f"the arm {name!r}: {value}: {_one_line(error)}") from None
    return value


def _checked(policy: Any) -> Mapping[str, Any]:
    """What can be checked without the server; of `{"use": …}` it is little."""
    if isinstance(policy, dict) and "use" in policy:
        return policy
    parse_policy(policy)
    found: Mapping[str, Any] = policy
    return found


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@cache
def _cautions() -> dict[str, str]:
    return {named.policy.name: str(named.described()["caution"]) for named in library()}
