"""Services of Debian that `debian.sh` has unpacked beside the tests' environment, or that are on PATH."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def service(name: str) -> tuple[str, dict[str, str]]:
    """Its program, and the variables with which it finds its libraries. Raises FileNotFoundError."""
    unpacked = Path(sys.executable).parent.parent / "debian"
    binary = unpacked / "usr" / "sbin" / name
    if binary.is_file():
        return str(binary), {"LD_LIBRARY_PATH": ":".join(map(str, unpacked.glob("usr/lib/*-linux-gnu")))}
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise FileNotFoundError(f"{name} is not here: `make test` unpacks Debian's; elsewhere put one on PATH")
    return found, {}
