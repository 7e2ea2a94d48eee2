"""Reads a YAML (or JSON) file that a user wrote; errors take one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class YamlError(ValueError):
    """A file that cannot be read, or not as YAML; the message, one line, says why."""


def read_yaml(file: Path) -> Any:
    """The value that a file holds. Raises YamlError."""
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise YamlError(f"{file} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # a date that is none is a ValueError
        raise YamlError(f"{file} cannot be read as YAML: {one_line(error)}") from None


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())
