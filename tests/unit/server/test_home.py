"""Caches have a folder where the user has none, and what must last is not put there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forkpoint_server.home import HomeError, use_writable_home
from tests.processes.container import container_command

VARIABLES = ("HOME", "XDG_DATA_HOME", "HF_HOME")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in VARIABLES:
        monkeypatch.setenv(name, "unset")  # so that it is restored
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def read_only() -> Path:
    """Even root cannot write there."""
    return Path("/proc/self")


def test_a_home_that_can_be_written_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    assert use_writable_home() is None
    assert os.environ["HOME"] == str(temporary)
    assert "XDG_DATA_HOME" not in os.environ


def test_one_that_cannot_is_replaced(temporary: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(read_only))
    own = use_writable_home()
    assert own == temporary / f"forkpoint-{os.getuid()}"
    assert own.stat().st_mode & 0o777 == 0o700
    assert os.environ["HOME"] == str(own)
    assert os.environ["XDG_DATA_HOME"] == "/proc/self/.local/share"  # the database does not go where caches go
    assert "HF_HOME" not in os.environ
    monkeypatch.setenv("HOME", str(read_only))
    assert use_writable_home() == own  # again, with what is cached there


def test_what_the_operator_set_stays(temporary: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(read_only))
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setenv("HF_HOME", "/models")
    assert use_writable_home() is not None
    assert (os.environ["XDG_DATA_HOME"], os.environ["HF_HOME"]) == ("/data", "/models")


def test_a_folder_of_anybody_elses_is_not_used(
    temporary: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(read_only))
    (temporary / f"forkpoint-{os.getuid()}").mkdir(mode=0o755)
    (temporary / f"forkpoint-{os.getuid()}").chmod(0o777)
    with pytest.raises(HomeError, match="set HOME"):
        use_writable_home()


CODE = """
import json
from forkpoint_server.home import *
from forkpoint_server.store.database import open_database
try:
    home = str(use_writable_home())
    check_compiled_code_can_run()
    found = [home, open_database().url.database]
except Exception as error:
    found = str(error)
print(json.dumps(found))
"""


def in_container(options: str = "exec", **variables: str) -> Any:
    """What the code prints in a container; skips where user namespaces are not permitted."""
    variables = {"PYTHONPATH": os.pathsep.join(one for one in sys.path if one), **variables}
    command = container_command([sys.executable, "-B", "-c", CODE], variables, options)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if ended.stderr.startswith("unshare"):
        pytest.skip(f"needs user namespaces: {ended.stderr.strip()}")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
def test_an_arbitrary_user_with_a_read_only_root() -> None:
    expected = ["/dev/shm/forkpoint-12345", "/dev/shm/data/forkpoint/forkpoint.sqlite3"]
    assert in_container(XDG_DATA_HOME="/dev/shm/data") == expected
    said = in_container()
    assert "no database can be created in /.local/share/forkpoint (Read-only file system)" in said
    assert "set --database-url, or XDG_DATA_HOME" in said


@pytest.mark.slow
def test_a_temporary_folder_that_cannot_execute() -> None:
    said = in_container("noexec", XDG_DATA_HOME="/dev/shm/data")
    assert "/dev/shm is mounted noexec" in said
    assert "--tmpfs /tmp:exec" in said


@pytest.mark.slow
def test_no_temporary_folder_at_all() -> None:
    assert "set TMPDIR" in in_container("ro")
