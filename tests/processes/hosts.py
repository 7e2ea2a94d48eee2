"""Hosts, made of network namespaces on a bridge: each has an address, its own /dev/shm and its own temporary folder.

The machine that runs the tests is on the bridge too. Needs root and Debian's iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.77.0"
BRIDGE = "fpbridge"


def missing() -> str | None:
    """Why hosts cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    absent = [program for program in ("ip", "unshare") if shutil.which(program) is None]
    return f"needs {', '.join(absent)} (Debian's iproute2 and util-linux)" if absent else None


@dataclass(frozen=True)
class Host:
    """A host by its number, from 1; `folder` is its temporary folder, which the other hosts do not see."""

    number: int
    folder: Path

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def _namespace(self) -> str:
        return f"fphost{self.number}"

    def command(self, *command: str) -> list[str]:
        """A command that runs another one on this host."""
        hidden = " ".join(str(self.folder.parent / f"host{other}") for other in (1, 2) if other != self.number)
        script = (
            f"hostname host{self.number}; mount --make-rprivate /; mount -t tmpfs tmpfs /dev/shm; "
            f'for folder in {hidden}; do mount -t tmpfs tmpfs "$folder"; done; exec "$@"'
        )
        isolated = ["unshare", "--mount", "--ipc", "--uts", "bash", "-c", script, "--"]
        return ["ip", "netns", "exec", self._namespace, *isolated, *command]

    def environment(self) -> dict[str, str]:
        """What a process on this host needs beside ours."""
        return {
            "TMPDIR": str(self.folder),
            "XDG_DATA_HOME": str(self.folder),
            "VLLM_HOST_IP": self.address,
            "GLOO_SOCKET_IFNAME": f"fpeth{self.number}",
        }

    def cut_off(self) -> None:
        """Disconnect it from the others: packets are lost, and no connection is closed."""
        _run("ip", "link", "set", f"fpport{self.number}", "down")

    def add_unreachable_address(self, address: str) -> None:
        """Give it an address more, to which the other hosts have no route."""
        _run("ip", "-n", self._namespace, "address", "add", f"{address}/32", "dev", "lo")

    def connect(self) -> None:
        """Connect it again."""
        _run("ip", "link", "set", f"fpport{self.number}", "up")


@contextmanager
def hosts(folder: Path) -> Iterator[Sequence[Host]]:
    """Two hosts, until the block ends; processes on them are to be ended before."""
    made = [Host(number, folder / f"host{number}") for number in (1, 2)]
    _remove(made)
    try:
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for host in made:
            host.folder.mkdir()
            namespace, inner, port = f"fphost{host.number}", f"fpeth{host.number}", f"fpport{host.number}"
            _run("ip", "netns", "add", namespace)
            _run("ip", "link", "add", port, "type", "veth", "peer", "name", inner, "netns", namespace)
            _run("ip", "link", "set", port, "master", BRIDGE, "up")
            _run("ip", "-n", namespace, "address", "add", f"{host.address}/24", "dev", inner)
            for device in (inner, "lo"):
                _run("ip", "-n", namespace, "link", "set", device, "up")
        yield made
    finally:
        _remove(made)


def _remove(made: Sequence[Host]) -> None:
    for host in made:
        subprocess.run(["ip", "netns", "delete", f"fphost{host.number}"], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", f"fpport{host.number}"], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
