"""Builds the distributions into dist/ and checks them, all but the upload: `make release`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = ("policies", "server", "clients", "forkpoint")
"""The folders of the distributions."""

TWINE = "twine@7.0.0"
COMMANDS = ("ab", "calibrate", "evidence", "experiments", "findings", "policies", "readout", "serve", "steer", "watch")
"""What `forkpoint` offers with all distributions installed."""


class ReleaseError(Exception):
    """What stands against a release."""


def project(folder: str) -> dict[str, object]:
    """The `project` table of a distribution's pyproject.toml."""
    found: dict[str, object] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return found


def check_versions(projects: dict[str, dict[str, object]], changelog: str) -> str:
    """The version that all distributions have, ask of each other, and that tops the changelog. Raises ReleaseError."""
    versions = {folder: str(table["version"]) for folder, table in projects.items()}
    if len(set(versions.values())) != 1:
        raise ReleaseError(f"the distributions have several versions: {versions}")
    version = next(iter(versions.values()))
    for folder, table in projects.items():
        for requirement in _requirements(table):
            if (own := re.match(r"(forkpoint-\w+)(?:\[\w+\])?(.*)", requirement)) and own[2] != f"=={version}":
                raise ReleaseError(f"{folder} requires {requirement!r}; it must be {own[1]}=={version}")
    newest = re.search(r"^## (\S+)$", changelog, re.MULTILINE)
    if newest is None or newest[1] != version:
        raise ReleaseError(f"CHANGELOG.md starts with {newest and newest[1]}, and the distributions are {version}")
    return version


def _requirements(table: dict[str, object]) -> Iterator[str]:
    yield from table.get("dependencies", ())  # type: ignore[misc]
    for extra in table.get("optional-dependencies", {}).values():  # type: ignore[attr-defined]
        yield from extra


def build(folder: str, target: Path, kinds: tuple[str, ...] = ("wheel", "sdist")) -> None:
    """Build a distribution's wheel and source archive into `target`."""
    for kind in kinds:
        command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(target)]
        subprocess.run(command, cwd=ROOT / folder, check=True, capture_output=True, timeout=120)


def check_wheel(folder: str, wheel: Path) -> None:
    """Raises ReleaseError unless a wheel holds exactly what git tracks of its package, and the licence."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        if archive.read(f"{metadata}/licenses/LICENSE") != (ROOT / "LICENSE").read_bytes():
            raise ReleaseError(f"{wheel.name}: its LICENSE is not the repository's")
    listed = subprocess.run(
        ["git", "ls-files", f"forkpoint_{folder}"],
        cwd=ROOT / folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    packed, tracked = {name for name in names if not name.startswith(metadata)}, set(listed.stdout.split())
    if packed != tracked:
        raise ReleaseError(f"{wheel.name}: differs from what git tracks in {sorted(packed ^ tracked)[:10]}")


LOAD_COMMANDS = """
import sys
from importlib.metadata import entry_points
for entry in entry_points(group="forkpoint.commands"):
    print(entry.name, sys.modules[entry.load().__module__].__file__)
"""


def install_afresh(wheels: list[Path], environment: Path) -> str:
    """Install the wheels into a new environment, and load all commands there; what `forkpoint --version` prints.

    Third-party packages are those of this environment: what is tested is what is in the wheels, and their entry points.
    Raises ReleaseError.
    """
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    install = [*uv, "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", str(python)]
    subprocess.run([*install, *map(str, wheels)], check=True, timeout=120)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "third_party.pth").write_text(sysconfig.get_path("purelib") + "\n")
    loaded = dict(line.split(" ", 1) for line in _output([python, "-c", LOAD_COMMANDS]).splitlines())
    if missing := set(COMMANDS) - set(loaded):
        raise ReleaseError(f"the wheels lack the commands {', '.join(sorted(missing))}")
    for command in COMMANDS:
        if not Path(loaded[command]).is_relative_to(packages):
            raise ReleaseError(f"`forkpoint {command}` is loaded from {loaded[command]}, not from its wheel")
    return _output([environment / "bin" / "forkpoint", "--version"])


def _output(command: list[str | Path]) -> str:
    """What a command prints without this environment's PYTHONPATH. Raises ReleaseError with its error."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise ReleaseError(f"{command[0]} fails in a fresh environment: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    """Build, check, and say how to upload."""
    version = check_versions({folder: project(folder) for folder in DISTRIBUTIONS}, (ROOT / "CHANGELOG.md").read_text())
    target = ROOT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    for folder in DISTRIBUTIONS:
        build(folder, target)
    for folder in DISTRIBUTIONS:
        (wheel,) = target.glob(f"{str(project(folder)['name']).replace('-', '_')}-{version}-*.whl")
        check_wheel(folder, wheel)
    twine = [sys.executable, "-m", "uv", "tool", "run", TWINE, "check", "--strict"]
    subprocess.run([*twine, *map(str, sorted(target.iterdir()))], check=True, timeout=600)
    environment = target / "environment"
    shown = install_afresh(sorted(target.glob("*.whl")), environment)
    shutil.rmtree(environment)
    if version not in shown:
        raise ReleaseError(f"`forkpoint --version` prints {shown!r}, and the distributions are {version}")
    print(f"dist/ holds {version}, checked; upload it with: twine upload dist/*")


if __name__ == "__main__":
    try:
        main()
    except ReleaseError as error:
        sys.exit(f"make release: {error}")
