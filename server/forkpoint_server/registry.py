"""The policies that one can ask for by name: the library, and those that the server was started with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import Policy, PolicyError, parse_policy

RESERVED_NAMES = frozenset({"inline", "none", "connectors", "validate"})


@dataclass(frozen=True)
class Named:
    """A policy one can ask for; `caution` says where its evidence is weak."""

    policy: Policy
    builtin: bool
    caution: str = ""

    def described(self) -> dict[str, Any]:
        """As the API shows it."""
        rules = self.policy.model_dump(mode="json", exclude_unset=True)
        extra = {"object": "policy", "digest": self.policy.digest, "builtin": self.builtin, "caution": self.caution}
        return {**rules, "description": self.policy.description, "source": self.policy.source, **extra}


class Registry:
    """Named policies; fixed once the server runs."""

    def __init__(self, added: Mapping[str, Policy] | None = None) -> None:
        self._named = {name: Named(entry.policy, True, entry.caution) for name, entry in LIBRARY.items()}
        self._named.update({name: Named(policy, False) for name, policy in (added or {}).items()})

    def __iter__(self) -> Iterator[Named]:
        return iter(self._named.values())

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def get(self, name: str, field: str = "policy") -> Named:
        """The policy of that name. Raises PolicyError when there is none."""
        if name not in self._named:
            raise PolicyError(field, f"there is no policy {name!r}; there are {', '.join(self._named)}")
        return self._named[name]

    def label(self, policy: Policy | None) -> str:
        """The name under which metrics count a policy: bounded, so every inline one is `inline`."""
        if policy is None:
            return "none"
        known = self._named.get(policy.name)
        return policy.name if known is not None and known.policy.rules == policy.rules else "inline"


def read_policies(folder: Path) -> dict[str, Policy]:
    """The policies of a folder's YAML files, one each. Raises PolicyError with the file and field of what is wrong."""
    if not folder.is_dir():
        raise PolicyError("--policies", f"{folder} is not a folder; give one with a .yaml file for each policy")
    found: dict[str, Policy] = {}
    for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        policy = read_policy(file)
        if policy.name in LIBRARY or policy.name in RESERVED_NAMES or policy.name in found:
            raise PolicyError(f"{file}: name", f"{policy.name!r} is taken; choose another name")
        found[policy.name] = policy
    return found


def read_policy(file: Path) -> Policy:
    """A policy from a YAML or JSON file. Raises PolicyError."""
    try:
        data = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyError(str(file), f"cannot be read as YAML: {' '.join(str(error).split())}") from None
    return parse_policy(data, f"{file}: policy")
