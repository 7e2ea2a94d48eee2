"""The named policies, one file each: data, with the paper that each comes from and what is known against it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from ._entry import Entry

__all__ = ["LIBRARY", "Entry"]


def _read() -> dict[str, Entry]:
    names = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    entries: list[Entry] = [importlib.import_module(f"{__name__}.{name}").ENTRY for name in names]
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}


LIBRARY: Mapping[str, Entry] = MappingProxyType(_read())
"""Every file of this folder, by its policy's name."""
