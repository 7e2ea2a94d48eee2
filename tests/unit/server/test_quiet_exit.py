"""What is printed at a process's end with `exit_quietly`, and what is left out."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit, sys
from forkpoint_server.quiet_exit import exit_quietly

class Leaked:
    def __del__(self, write=sys.stderr.write):
        write("leaked")

exit_quietly()
atexit.register(print, "a handler")
kept = Leaked()
print("the end")
sys.exit(3)
"""


def test_what_comes_after_the_exit_handlers_is_left_out() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout == "the end\na handler\n"
    assert done.stderr == ""
    assert done.returncode == 3


def test_a_traceback_is_printed() -> None:
    program = PROGRAM.replace("sys.exit(3)", "raise ValueError('why')")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.endswith("ValueError: why\n")
    assert done.returncode == 1


def test_without_it_the_same_program_says_more() -> None:
    program = PROGRAM.replace("exit_quietly()\n", "\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == "leaked"
