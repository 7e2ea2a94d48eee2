"""Whether a file is on a network file system, where SQLite's locks and its WAL do not hold."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs",
        "fuse.mount-s3", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
        "nfs4", "orangefs", "smb3", "smbfs", "wekafs",
    }
)  # fmt: skip
"""Types of file systems as Linux names them."""


def network_file_system(file: Path, mounts: str | None = None) -> str | None:
    """The type of the network file system that holds a file; None on a local one, and where that cannot be known.

    `mounts` is what /proc/self/mountinfo holds.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text(errors="surrogateescape")
        except OSError:  # not Linux
            return None
    resolved, found, depth = file.resolve(), "", -1
    for line in mounts.splitlines():
        fields, separator, source = line.partition(" - ")
        if not separator:
            continue
        point = Path(_unescaped(fields.split(" ")[4]))
        if resolved.is_relative_to(point) and len(point.parts) >= depth:  # a later mount hides an earlier one
            found, depth = source.split(" ")[0], len(point.parts)
    return found if found in NETWORK else None


def _unescaped(path: str) -> str:
    """Spaces and the like are written in octal: `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), path)
