"""Where a file is: the last of the deepest mounts that hold it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from forkpoint_server.store import database
from forkpoint_server.store.database import database_warnings
from forkpoint_server.store.network_file_system import network_file_system

MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
31 30 0:31 / /home/ann/local rw - xfs /dev/sdb1 rw
32 22 0:32 / /with\\040space rw master:1 - fuse.sshfs ann@host: rw
33 22 0:33 / /over rw - cifs //server/share rw
34 22 0:34 / /over rw - tmpfs tmpfs rw
35 22 0:35 / /share rw - 9p share rw
a line that is cut
"""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/var/lib/x.sqlite3", None),
        ("/home/ann/x.sqlite3", "nfs4"),
        ("/homes/x.sqlite3", None),
        ("/home/ann/local/x.sqlite3", None),
        ("/with space/x.sqlite3", "fuse.sshfs"),
        ("/over/x.sqlite3", None),
        ("/share/deep/below/x.sqlite3", "9p"),
    ],
)
def test_the_file_system_of_a_file(file: str, kind: str | None) -> None:
    assert network_file_system(Path(file), MOUNTS) == kind


def test_this_machine(tmp_path: Path) -> None:
    assert network_file_system(tmp_path / "x.sqlite3") is None


def test_the_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "network_file_system", lambda file: network_file_system(file, MOUNTS))
    (warning,) = database_warnings(create_engine("sqlite:////home/ann/x.sqlite3"))
    assert "/home/ann/x.sqlite3 is on a network file system (nfs4)" in warning
    assert database_warnings(create_engine("sqlite:////var/x.sqlite3")) == []
    assert database_warnings(create_engine("postgresql+psycopg://host/x")) == []
