"""Where the other servers of a database reach this one."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

MAX_LENGTH = 256
UNKNOWN = "0.0.0.0"  # noqa: S104  # nothing listens there: it is what vLLM's `get_ip` returns for lack of an address


@dataclass(frozen=True)
class Listening:
    """Where a server listens: its `--host`, `--port`, `--uds`, and whether it speaks TLS."""

    host: str | None
    port: int
    uds: str | None
    tls: bool


def replica_address(
    named: str, listening: Listening, own_ip: Callable[[], str], own_port: int | None = None
) -> str | None:
    """`http://HOST:PORT`: from `--replica-address`, else from where the server listens; None if that says nothing.

    `own_ip` returns this machine's address, for a server that listens on all. `own_port` takes the place of the port in
    `--replica-address`. Raises ValueError for a name that is no address.
    """
    scheme = "https" if listening.tls else "http"
    if named:
        return _parsed(named, scheme, listening.port, own_port)
    if listening.uds is not None:
        return None
    host = listening.host or ""
    if not host or _is_unspecified(host):
        host = own_ip()
        if host == UNKNOWN:
            return None
    return f"{scheme}://{_bracketed(host)}:{listening.port}"


def named_port(named: str) -> int | None:
    """The port in `--replica-address`; None without one, and for a name that cannot be an address."""
    try:
        return urlsplit(_url(named, "http")).port
    except ValueError:
        return None


def _parsed(named: str, scheme: str, port: int, own_port: int | None) -> str:
    url = _url(named, scheme)
    try:
        parts = urlsplit(url)
        wrong = (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path not in ("", "/")
            or parts.query + parts.fragment
            or "@" in parts.netloc
            or len(url) > MAX_LENGTH - len(":65535")
            or not url.isascii()
            or not url.isprintable()
            or " " in url
        )
        number = own_port or parts.port or port
    except ValueError:
        wrong = True
    if wrong:
        raise ValueError(
            f"--replica-address: {named!r} is not an address; write HOST, HOST:PORT or http://HOST:PORT, as the other "
            "servers reach this one"
        )
    return f"{parts.scheme}://{_bracketed(parts.hostname or '')}:{number}"


def _url(named: str, scheme: str) -> str:
    return named if "://" in named else f"{scheme}://{_bracketed(named)}"


def _bracketed(host: str) -> str:
    """A host as it stands in a URL; one with a port stays as it is."""
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
