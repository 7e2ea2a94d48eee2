"""Published findings, one module each: the claim, and how it is retested on the model behind a server."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from forkpoint_clients.findings.base import Finding

__all__ = ["FINDINGS", "Finding"]

ORDER = (
    "sparse-forks",
    "dynamics",
    "fork-validity",
    "fork-temperature",
    "connectors",
    "entropy-law",
    "branching",
    "early-exit",
    "effective-rank",
    "mi-peaks",
    "steering",
    "recycling",
)
"""The order in reports: findings that others build on come first. Unlisted ones follow by name."""


def _read() -> dict[str, Finding]:
    names = (module.name for module in pkgutil.iter_modules(__path__))
    catalog: list[Finding] = [importlib.import_module(f"{__name__}.{name}").FINDING for name in names]
    known = {finding.name: finding for finding in sorted(catalog, key=lambda finding: finding.name)}
    return {
        name: known[name] for name in sorted(known, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    }


FINDINGS: Mapping[str, Finding] = MappingProxyType(_read())
"""The finding of every module of this folder, by name."""
