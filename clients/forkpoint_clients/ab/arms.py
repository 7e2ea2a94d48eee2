"""The arms of a comparison: a policy, or none, on a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from forkpoint_clients.evaluate.asker import NO_POLICY
from forkpoint_clients.evaluate.doses import PLACEBO
from forkpoint_clients.server_address import api_url
from forkpoint_policies.catalog import library
from forkpoint_policies.spec import parse_policy
from forkpoint_policies.spec.yaml_file import YamlError, read_yaml

FILES = (".yaml", ".yml", ".json")


class ArmError(ValueError):
    """An invalid arm; the message says what would be valid."""


@dataclass(frozen=True)
class Arm:
    """`policy` is a name, an object as in the `policy` field, or None.

    `url`, `model`, `api_key` default to the run's.
    """

    name: str
    policy: str | Mapping[str, Any] | None = None
    url: str | None = None
    model: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @property
    def library_name(self) -> str | None:
        """The library policy that this is, with or without parameters, or as a placebo; None for any other."""
        name = self.policy.get("use") if isinstance(self.policy, Mapping) else self.policy
        return name if isinstance(name, str) and name in _cautions() else None

    @property
    def caution(self) -> str:
        """The limits of the evidence for the policy, from the library."""
        return _cautions()[self.library_name] if self.library_name is not None else ""


def placebos(arms: Iterable[Arm]) -> dict[str, str]:
    """Placebo arms and the arms of their policies, by what they use."""
    used = {arm.name: arm.policy.get("use") if isinstance(arm.policy, Mapping) else arm.policy for arm in arms}
    by_policy = {policy: name for name, policy in reversed(used.items()) if policy is not None}
    return {
        name: by_policy[policy.removesuffix(PLACEBO)]
        for name, policy in used.items()
        if isinstance(policy, str) and policy.endswith(PLACEBO) and policy.removesuffix(PLACEBO) in by_policy
    }


def arm(text: str) -> Arm:
    """Parse `none`, `POLICY`, or `NAME=` followed by a policy's name, JSON or YAML file. Raises ArmError."""
    if text.startswith("{"):
        raise ArmError(f"the arm {text!r} has no name; write NAME={text}")
    name, equals, value = text.partition("=")
    if not name.strip() or (equals and not value.strip()):
        raise ArmError(f"the arm {text!r} must be a policy's name, or NAME=POLICY, NAME={{…}} or NAME=FILE.yaml")
    return Arm(name.strip(), _policy(name.strip(), value.strip() if equals else name.strip()))


def arms(
    texts: Sequence[str], urls: Sequence[str] = (), models: Sequence[str] = (), api_keys: Sequence[str] = ()
) -> tuple[Arm, ...]:
    """Parse all arms of a run; the others are compared with the first. Options are `NAME=VALUE`. Raises ArmError."""
    by_name: dict[str, Arm] = {}
    for text in texts:
        parsed = arm(text)
        if parsed.name in by_name:
            raise ArmError(f"two arms are called {parsed.name!r}; give one another name: NAME={text}")
        by_name[parsed.name] = parsed
    if not by_name:
        raise ArmError("there is no arm; give at least one, as in --arm none --arm nowait --arm nowait.placebo")
    for name, url in _values(urls, "--arm-url", by_name):
        by_name[name] = replace(by_name[name], url=api_url(url))
    for name, model in _values(models, "--arm-model", by_name):
        by_name[name] = replace(by_name[name], model=model)
    for name, key in _values(api_keys, "--arm-api-key", by_name):
        by_name[name] = replace(by_name[name], api_key=key)
    return tuple(by_name.values())


def _values(texts: Iterable[str], option: str, known: Mapping[str, Arm]) -> Iterator[tuple[str, str]]:
    """The names and values of an option. Errors never show the value, which may be a secret."""
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in known or not value:
            problem = f"{name!r} is not an arm" if equals and name not in known else "a name and a value are needed"
            raise ArmError(f"{option} must be NAME=VALUE with an arm's name ({', '.join(known)}): {problem}")
        yield name, value


def _policy(name: str, value: str) -> str | Mapping[str, Any] | None:
    if value == NO_POLICY:
        return None
    if value.startswith("{"):
        try:
            return _checked(json.loads(value))
        except ValueError as error:
            raise ArmError(f"the arm {name!r}: {' '.join(str(error).split())}") from None
    if value.endswith(FILES):
        try:
            return _checked(read_yaml(Path(value)))
        except YamlError as error:
            raise ArmError(f"the arm {name!r}: {error}") from None
        except ValueError as error:
            raise ArmError(f"the arm {name!r}: {value}: {' '.join(str(error).split())}") from None
    return value


def _checked(policy: Any) -> Mapping[str, Any]:
    """A policy, checked unless only its server knows it (`{"use": …}`). Raises InputError, a ValueError."""
    if not (isinstance(policy, dict) and "use" in policy):
        parse_policy(policy)
    checked: Mapping[str, Any] = policy
    return checked


@cache
def _cautions() -> dict[str, str]:
    return {named.policy.name: str(named.to_dict()["caution"]) for named in library()}
