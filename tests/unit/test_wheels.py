"""Each package's wheel holds exactly the files that git tracks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("policies", "server", "clients")
NEEDED = {
    "policies": {
        "forkpoint_policies/py.typed",
        "forkpoint_policies/spec/policy.schema.json",
        "forkpoint_policies/library/nowait.py",
    },
    "server": {
        "forkpoint_server/py.typed",
        "forkpoint_server/demo/weights/model.safetensors",
        "forkpoint_server/viewer/index.html",
        "forkpoint_server/viewer/d3-7.9.0/LICENSE",
        "forkpoint_server/store/migrations/env.py",
    },
    "clients": {"forkpoint_clients/py.typed", "forkpoint_clients/templates/ab.html.jinja"},
}
"""One essential file of each kind per package: the comparison with git would not notice one that git does not track."""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_what_git_tracks(package: str, tmp_path: Path) -> None:
    folder = ROOT / package
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=folder, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        files = set(archive.namelist())
        metadata = next(name.partition("/")[0] for name in files if ".dist-info/" in name)
        assert archive.read(f"{metadata}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    own = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
    assert {name for name in files if name.startswith(metadata)} == {f"{metadata}/{name}" for name in own}
    listed = subprocess.run(
        ["git", "ls-files", f"forkpoint_{package}"], cwd=folder, check=True, capture_output=True, text=True, timeout=60
    )
    tracked = set(listed.stdout.split())
    assert tracked >= NEEDED[package]
    assert {name for name in files if not name.startswith(metadata)} == tracked
