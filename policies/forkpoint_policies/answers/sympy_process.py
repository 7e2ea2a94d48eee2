"""The process in which SymPy computes: it can be stopped, and holds up no other thread. It starts when it is needed."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from functools import lru_cache

logger = logging.getLogger(__name__)

START_SECONDS = 120.0
"""For the first reply: SymPy takes a second to import, more on a busy machine."""

REPLY_SECONDS = 30.0
"""Wall-clock time for one formula; the process itself stops after 2 seconds of its own time."""

MAX_FORMULA = 400
"""Characters: the time to parse a formula grows with its square."""

MAX_REPLY_BYTES = 1 << 16
CACHED = 4096


class SympyProcess:
    """One process, used by one thread at a time. Whatever happens to it, a formula only has no spelling."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._replied = False
        self.spelled = lru_cache(CACHED)(self._spelled)
        self.agree = lru_cache(CACHED)(self._agree)

    def _spelled(self, formula: str) -> str | None:
        """The spelling of a formula in TeX; None if it cannot be read, or not in time."""
        if len(formula) > MAX_FORMULA:
            return None
        reply = self._ask([formula])
        return reply if isinstance(reply, str) else None

    def _agree(self, reference: str, answer: str) -> bool:
        """Whether Math-Verify takes an answer for the reference, both formulas in TeX."""
        if not reference or not answer or max(len(reference), len(answer)) > MAX_FORMULA:
            return False
        return self._ask([reference, answer]) is True

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _ask(self, request: list[str]) -> object:
        with self._lock:
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                reply = self._read(process, REPLY_SECONDS if self._replied else START_SECONDS)
                self._replied = True
                return json.loads(reply)
            except (OSError, ValueError) as error:
                logger.warning("an answer is compared as text: %s: %s", type(error).__name__, error)
                self._end()
                return None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "forkpoint_policies.answers.sympy_spelling"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._owner, self._replied = os.getpid(), False
            atexit.register(self.close)
        return self._process

    def _read(self, process: subprocess.Popen[bytes], seconds: float) -> bytes:
        """The next line. Raises TimeoutError, or OSError where the process has ended."""
        assert process.stdout is not None
        deadline, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no reply within {seconds:g} s")
                part = os.read(process.stdout.fileno(), MAX_REPLY_BYTES)
                if not part or len(line) > MAX_REPLY_BYTES:
                    raise OSError("the process that computes with it has ended")
                line += part
        return line

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.close)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was still to be sent has no reader
                    stream.close()
        if self._owner == os.getpid():
            process.kill()
            process.wait()


SYMPY = SympyProcess()
