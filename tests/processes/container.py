"""A process as `docker run --user 12345:0 --read-only --tmpfs /tmp` starts it, without Docker.

User namespaces give what matters: an arbitrary user without a passwd entry and without a home, a root that is mounted
read-only, and one folder that can be written, TMPDIR. The network is the machine's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

USER = 12345
TEMPORARY = "/dev/shm"
SCRIPT = f"""
set -e
mount -t tmpfs -o mode=1777,"$1" none {TEMPORARY}
mount -o remount,ro,bind /
shift
exec unshare --user --map-user={USER} --map-group=0 env -i TMPDIR={TEMPORARY} "$@"
"""


def container_command(command: Sequence[str], variables: Mapping[str, str], options: str = "exec") -> list[str]:
    """A command in a container, with no other variables; `options` are those of the temporary folder's mount."""
    environment = [f"{name}={value}" for name, value in {"PATH": os.environ["PATH"], **variables}.items()]
    namespaces = ["unshare", "--user", "--map-root-user", "--mount"]
    return [*namespaces, "bash", "-c", SCRIPT, "container", options, *environment, *command]
