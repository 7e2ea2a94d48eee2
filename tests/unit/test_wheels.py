"""The distributions: each wheel holds exactly the files that git tracks, versions agree, and wheels install afresh."""

from __future__ import annotations

import copy
from pathlib import Path
from zipfile import ZipFile

import pytest

from tools.release import DISTRIBUTIONS, ReleaseError, build, check_versions, check_wheel, install_afresh, project

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
    "forkpoint": set[str](),
}
"""One essential file of each kind per package: the comparison with git would not notice one that git does not track."""
ROOT = Path(__file__).parents[2]
PROJECTS = {folder: project(folder) for folder in DISTRIBUTIONS}
VERSION = str(PROJECTS["policies"]["version"])


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each distribution."""
    found = {}
    for folder in DISTRIBUTIONS:
        target = tmp_path_factory.mktemp(folder)
        build(folder, target, ("wheel",))
        (found[folder],) = target.glob("*.whl")
    return found


@pytest.mark.parametrize("folder", DISTRIBUTIONS)
def test_a_wheel_holds_what_git_tracks(wheels: dict[str, Path], folder: str) -> None:
    check_wheel(folder, wheels[folder])
    with ZipFile(wheels[folder]) as archive:
        files = set(archive.namelist())
    assert files >= NEEDED[folder]
    metadata = {name.partition("/")[2] for name in files if ".dist-info/" in name}
    assert metadata - {"entry_points.txt"} == {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE"}


def test_a_wheel_with_another_file_is_found(wheels: dict[str, Path], tmp_path: Path) -> None:
    changed = tmp_path / wheels["clients"].name
    changed.write_bytes(wheels["clients"].read_bytes())
    with ZipFile(changed, "a") as archive:
        archive.writestr("forkpoint_clients/notes.txt", "")
    with pytest.raises(ReleaseError, match=r"forkpoint_clients/notes\.txt"):
        check_wheel("clients", changed)


@pytest.mark.slow
def test_the_wheels_work_in_a_fresh_environment(wheels: dict[str, Path], tmp_path: Path) -> None:
    assert install_afresh(list(wheels.values()), tmp_path / "environment").startswith(f"forkpoint {VERSION} ")


@pytest.mark.slow
def test_a_wheel_that_is_missing_is_found(wheels: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="No module named 'forkpoint_clients'"):
        install_afresh([wheels["policies"]], tmp_path / "environment")


def test_all_versions_are_one() -> None:
    assert check_versions(PROJECTS, (ROOT / "CHANGELOG.md").read_text()) == VERSION


def test_the_thin_distribution_asks_for_what_exists() -> None:
    extras = PROJECTS["forkpoint"]["optional-dependencies"]
    assert isinstance(extras, dict)
    assert {"server", "gpu", "clients"} <= set(extras)
    server_extras = PROJECTS["server"]["optional-dependencies"]
    assert isinstance(server_extras, dict)
    assert {"gpu", "cpu"} <= set(server_extras)


def test_a_version_that_differs_is_found() -> None:
    changed = copy.deepcopy(PROJECTS)
    changed["clients"]["version"] = "9.9.9"
    with pytest.raises(ReleaseError, match="several versions"):
        check_versions(changed, f"## {VERSION}")


def test_a_requirement_of_another_version_is_found() -> None:
    changed = copy.deepcopy(PROJECTS)
    changed["forkpoint"]["optional-dependencies"] = {"gpu": ["forkpoint-server[gpu]==0.1.0"]}
    with pytest.raises(ReleaseError, match=r"must be forkpoint-server==" + VERSION):
        check_versions(changed, f"## {VERSION}")


def test_a_changelog_without_the_version_is_found() -> None:
    with pytest.raises(ReleaseError, match=r"starts with 0\.0\.1"):
        check_versions(PROJECTS, "# Changelog\n\n## 0.0.1\n")
