"""Writes the map of the modules in docs/architecture.md from the first lines of their docstrings."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("policies/forkpoint_policies", "server/forkpoint_server", "clients/forkpoint_clients")
WIDTH = 120
START, END = "<!-- modules: start -->", "<!-- modules: end -->"


def module_map() -> str:
    """Return the map as Markdown: a heading per package, a list per folder, one line per module."""
    return "\n".join(line for package in PACKAGES for line in _package(ROOT / package)).rstrip()


def _package(package: Path) -> Iterator[str]:
    yield f"### {package.relative_to(ROOT).as_posix()}"
    yield f"{_first_line(package / '__init__.py')}\n"
    folders = sorted({module.parent for module in package.rglob("*.py")})
    for folder in folders:
        modules = [module for module in sorted(folder.glob("*.py")) if module.name != "__init__.py"]
        if folder != package:
            name = folder.relative_to(package).as_posix()
            yield _wrapped(f"**`{name}/`** {_first_line(folder / '__init__.py')}") + "\n"
        for module in modules:
            yield _wrapped(f"- `{module.name}`: {_first_line(module)}", "  ")
        if modules:
            yield ""


def _wrapped(line: str, indent: str = "") -> str:
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _first_line(module: Path) -> str:
    """Return the first line of a module's docstring. Empty if the module or its docstring is missing."""
    text = module.read_text() if module.exists() else ""
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]


def with_map(page: str) -> str:
    """Return the page's text with the current map between its markers. Raises ValueError if a marker is missing."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{PAGE.name}: no {START} or no {END}")
    return f"{before}{START}\n{module_map()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_map(PAGE.read_text()))
