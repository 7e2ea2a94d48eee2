"""The policies that a request can name: the library, the operator's, and those stored in the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from forkpoint_policies.catalog import Named, library, with_placebo
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.placebo import PLACEBO
from forkpoint_policies.spec import MAX_NAME, InputError, Policy, parse_policy, unknown_name
from forkpoint_policies.spec.yaml_file import YamlError, read_yaml

RESERVED_NAMES = frozenset({"inline", "none", "connectors", "schema", "validate"})


class Registry:
    """Named policies, each with its placebo. The library's and the operator's are fixed; the stored ones change."""

    def __init__(self, own: Mapping[str, Policy] | None = None) -> None:
        fixed = [*library(), *(named for policy in (own or {}).values() for named in with_placebo(policy))]
        self._fixed = {named.policy.name: named for named in fixed}
        self._named = self._fixed

    def replace_stored(self, stored: Iterable[Named]) -> None:
        """Replace all stored policies by these, placebos among them. A fixed name keeps its policy."""
        added = {named.policy.name: named for named in stored}
        self._named = {**added, **self._fixed} if added else self._fixed

    def is_fixed(self, name: str) -> bool:
        """Whether the name is the library's or the operator's, so that it cannot be changed."""
        return name in self._fixed

    def holds(self, policy: Policy) -> bool:
        """Whether this very policy is registered: not one that merely has the name, or other parameters."""
        named = self._named.get(policy.name)
        return named is not None and named.policy is policy

    def __iter__(self) -> Iterator[Named]:
        return iter(self._named.values())

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def get(self, name: str, field: str = "policy") -> Named:
        """The policy of that name. Raises InputError when there is none."""
        if name not in self._named:
            plain = name.removesuffix(PLACEBO)
            if plain in self._named and name != plain:
                why = "is a placebo itself" if plain.endswith(PLACEBO) else "does the same at every position"
                raise InputError(field, f"{plain!r} {why}, so it has no placebo")
            raise InputError(field, unknown_name("policy", name, self._named, "GET /v1/policies lists them"))
        return self._named[name]


def read_policies(folder: Path) -> dict[str, Policy]:
    """Read a folder of YAML files, one policy each. Raises InputError with the file and the field of what is wrong."""
    if not folder.is_dir():
        raise InputError("--policies", f"{folder} is not a folder; give one with a .yaml file for each policy")
    found: dict[str, Policy] = {}
    for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml"))):
        policy = read_policy(file)
        if policy.name in LIBRARY or policy.name in found:
            raise InputError(f"{file}: name", f"{policy.name!r} is taken; choose another name")
        check_name(policy.name, f"{file}: name")
        found[policy.name] = policy
    return found


def check_name(name: str, field: str) -> None:
    """Raise InputError for a name that a user's policy cannot have."""
    if name in RESERVED_NAMES:
        raise InputError(field, f"{name!r} is taken; choose another name")
    if len(name) + len(PLACEBO) > MAX_NAME:
        raise InputError(field, f"is too long; at most {MAX_NAME - len(PLACEBO)}, as {PLACEBO!r} is added to it")
    if name.endswith(PLACEBO):
        raise InputError(field, f"names that end in {PLACEBO!r} are those of placebos; choose another name")


def read_policy(file: Path) -> Policy:
    """Read a policy from a YAML or JSON file. Raises InputError."""
    try:
        data = read_yaml(file)
    except YamlError as error:
        raise InputError(str(file), error.problem) from None
    return parse_policy(data, f"{file}: policy")
