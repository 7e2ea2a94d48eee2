"""A home folder for the caches of vLLM and its libraries, where the user has none: a container with an arbitrary user.

Imports nothing of them: they read their environment variables when they are imported.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


class HomeError(OSError):
    """No folder can be used. The message says which variable to set, in one line."""


def use_writable_home() -> Path | None:
    """Set HOME to a folder in the temporary one if the user's cannot be written; returns it, None if it can.

    What is to outlast the process stays where it was, and is an error if it cannot be written there: the database
    (XDG_DATA_HOME), and models that are already downloaded (HF_HOME). Raises HomeError.
    """
    home = Path("~").expanduser() if _has_home() else Path("/")
    if _is_writable(home / ".cache"):
        return None
    own = temporary_folder() / f"forkpoint-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise HomeError(f"{own} is not a folder of this user's alone; set HOME to a folder that can be written")
    os.environ.setdefault("XDG_DATA_HOME", str(home / ".local" / "share"))
    if (home / ".cache" / "huggingface").is_dir():
        os.environ.setdefault("HF_HOME", str(home / ".cache" / "huggingface"))
    os.environ["HOME"] = str(own)
    return own


def temporary_folder() -> Path:
    """The temporary folder. Raises HomeError if there is none, or if it is full."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise HomeError(
            "no temporary folder can be written; set TMPDIR to one, or mount one at /tmp (docker run --tmpfs /tmp:exec)"
        ) from None


def check_compiled_code_can_run() -> None:
    """Raise HomeError if the folder in which torch compiles functions is mounted without the right to execute."""
    configured = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    folder = _existing(Path(configured)) if configured else temporary_folder()
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise HomeError(
            f"{folder} is mounted noexec, and torch runs what it compiles there; mount it with exec "
            "(docker run --tmpfs /tmp:exec), or set TORCHINDUCTOR_CACHE_DIR to a folder that is"
        )


def _has_home() -> bool:
    """Whether the user has a home: HOME is set, or the system knows one."""
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


def _is_writable(folder: Path) -> bool:
    return os.access(_existing(folder), os.W_OK | os.X_OK)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())
