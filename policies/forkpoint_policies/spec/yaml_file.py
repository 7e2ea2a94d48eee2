"""Reads a YAML (or JSON) file that a user wrote, by the rules of YAML 1.2; errors take one line.

PyYAML reads by YAML 1.1, where `1e-6` is a text, `010` is 8, `1:30` is 90, and `no` and `on` among words are booleans.
JSON and the console's editor read them otherwise; a file must mean the same in all three.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml


class YamlError(ValueError):
    """A file that cannot be read, or not as YAML; the message, one line, begins with the file."""

    def __init__(self, file: Path, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{file} {problem}")


def read_yaml(file: Path) -> Any:
    """The value that a file holds. Raises YamlError."""
    try:
        return parse_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise YamlError(file, f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise YamlError(file, f"cannot be read as YAML: {' '.join(str(error).split())}") from None


def parse_yaml(text: str) -> Any:
    """The value that a text holds. Raises yaml.YAMLError, ValueError or RecursionError."""
    return yaml.load(text, _Loader)  # noqa: S506 -- a SafeLoader


_PLAIN = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
)
"""What is not a text though it has no quotes: the tag, the pattern, and how it can begin. YAML 1.2.2, section 10.3.2;
and `1_000` and `<<`, which PyYAML and js-yaml both take. An integer also has a float's form: the first match counts."""


class _Loader(yaml.SafeLoader):
    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """YAML 1.1's constructor would read `010` as octal."""
        digits = self.construct_scalar(node).replace("_", "")
        return int(digits, {"0o": 8, "0x": 16}.get(digits[:2], 10))


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """_PLAIN by the first character, as PyYAML looks it up."""
    found: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first in _PLAIN:
        for character in first:
            found.setdefault(character, []).append((f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})\\Z")))
    return found


_Loader.yaml_implicit_resolvers = _resolvers()
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
