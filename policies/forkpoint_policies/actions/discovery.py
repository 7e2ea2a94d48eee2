"""The actions of this folder, by the key of `do` that each one is: its file's name."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from .definition import ActionFile


def _found() -> Iterator[tuple[str, ActionFile]]:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        declared = getattr(import_module(f"{__package__}.{module.name}"), "ACTION", None)
        if isinstance(declared, ActionFile):
            yield module.name, declared


ACTIONS: dict[str, ActionFile] = dict(_found())
