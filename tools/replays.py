"""Counts, for each named policy, the cases that replay its authors' rule, and writes them into docs/measurements.md:
`python -m tools.replays`.

A case counts for the policies that its test, or what of its module the test uses, names. Where a test is parametrised
by policies, a case counts for its own one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from forkpoint_policies.library import LIBRARY

ROOT = Path(__file__).parents[1]
CASES = "tests/unit/policies/library"
GENERAL = "test_library.py"
"""Its tests are of every policy alike."""
PAGE = ROOT / "docs" / "measurements.md"
_SECTION = re.compile(r"^### Published rules, replayed\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| `(?P<name>[a-z-]+)`(?P<alias>[^|]*)\| \d+ \|", re.MULTILINE)


def collected() -> list[tuple[str, str, str]]:
    """The module, test and parameters of each case that pytest collects."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q", CASES]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return re.findall(rf"^{CASES}/(\w+\.py)::(\w+)(.*)$", listed, re.MULTILINE)


def named_in(module: Path) -> Mapping[str, set[str]]:
    """By test, the policies that it names: itself, or through the functions and constants of its module."""
    defined: dict[str, ast.AST] = {}
    for node in ast.parse(module.read_text()).body:
        for name in _defined_names(node):
            defined[name] = node
    return {name: set(_policies(node, defined, {name})) for name, node in defined.items() if name.startswith("test_")}


def _defined_names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


def _policies(node: ast.AST, defined: Mapping[str, ast.AST], seen: set[str]) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value in LIBRARY:
            yield part.value
        if isinstance(part, ast.Name) and part.id in defined and part.id not in seen:
            seen.add(part.id)
            yield from _policies(defined[part.id], defined, seen)


def counts() -> Counter[str]:
    """The number of cases of each policy."""
    found: Counter[str] = Counter()
    named: dict[str, Mapping[str, set[str]]] = {}
    for module, test, parameters in collected():
        if module == GENERAL:
            continue
        if module not in named:
            named[module] = named_in(ROOT / CASES / module)
        policies = named[module][test]
        own = {name for name in policies if re.search(rf"[\[-]{name}[\]-]", parameters)}
        found.update(own or policies)
    return found


def write() -> None:
    """Put the counts into the section's table."""
    found = counts()

    def counted(section: re.Match[str]) -> str:
        return _ROW.sub(lambda row: f"| `{row['name']}`{row['alias']}| {found[row['name']]} |", section[0])

    PAGE.write_text(_SECTION.sub(counted, PAGE.read_text()))


if __name__ == "__main__":
    write()
