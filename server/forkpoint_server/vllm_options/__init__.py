"""The option names of each supported vLLM, to find an unknown option without importing vLLM, which takes long.

`VERSION.txt` lists what vLLM's parser accepts, one name a line; `python -m tools.vllm_options` writes it. For another
version, or with a plugin for a platform, which may add options, nothing is known.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import yaml

TABLES = Path(__file__).parent
PLATFORM_PLUGINS = "vllm.platform_plugins"
"""The entry points of plugins that may add options."""
_VERSION = re.compile(r"^__version__ = [^'\n]*'([^'+\n]+)", re.MULTILINE)

MAX_NEAR = 3
ALIKE = 0.65
"""How similar a suggested name is, as difflib counts."""


def installed_options() -> frozenset[str]:
    """The options of the installed vLLM; empty if they are not known."""
    version = installed_version()
    table = TABLES / f"{version}.txt"
    if version is None or not table.is_file() or entry_points(group=PLATFORM_PLUGINS):
        return frozenset()
    return frozenset(table.read_text().split())


def installed_version() -> str | None:
    """The version of vLLM without its build, such as `0.32.0`; None if it cannot be told without importing it."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("_version.py")
    found = _VERSION.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    return None if found is None else found[1]


def unknown_option(arguments: Sequence[str], options: Collection[str]) -> str | None:
    """What is wrong with the first `--option` that vLLM's parser would not accept; None if it accepts all.

    As in vLLM, `--a_b` is `--a-b`, `--a.b` is a key of the JSON of `--a`, and the beginning of a name will do. Options
    with one dash are not checked. What a --config file names is.
    """
    for name, file in named_options(arguments):
        option = name.partition(".")[0].replace("_", "-")
        if not any(known.startswith(option) for known in options):
            where = f" in {file}" if file else ""
            return f"unknown option {option}{where}; {_hint(option, options)}"
    return None


def named_options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The options that are named, each with the --config file that names it, or an empty string."""
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            return
        name, equals, _ = argument.partition("=")
        if name.startswith("-") and "." in name and not equals:
            next(rest, None)  # the value, which may begin with a dash
        elif argument == "--config":
            file = next(rest, "")
            yield from (("--config", ""), *((key, file) for key in _keys(file)))
            continue
        if name.startswith("--") and " " not in name:  # with a space, argparse takes it for a value
            yield name, ""


def _keys(file: str) -> Iterator[str]:
    """The options that a --config file names. vLLM ignores those that are false or an empty list."""
    try:
        settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return  # vLLM says what is wrong with the file
    if isinstance(settings, dict):
        yield from (f"--{key}" for key, value in settings.items() if value is not False and value != [])


def _hint(option: str, options: Collection[str]) -> str:
    near = difflib.get_close_matches(option, sorted(options), n=MAX_NEAR, cutoff=ALIKE)
    return f"did you mean {' or '.join(near)}?" if near else "forkpoint serve --help=all lists all"
