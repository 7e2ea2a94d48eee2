"""What libraries print at the very end, while the interpreter is taken apart, is left out.

Triton's extension, which vLLM imports, lists its types and functions there as leaked: thirty lines.
"""

from __future__ import annotations

import atexit
import os
import sys


def exit_quietly() -> None:
    """Print nothing after the exit handlers that are registered later: they run before this one. The status is kept."""
    atexit.register(_discard_output)


def _discard_output() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(null, stream.fileno())
