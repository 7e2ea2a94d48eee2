"""How a command ends whose answers lie in a folder: in a line, with the exit status that says whether to resume it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from forkpoint_clients.cli.running import INTERRUPTED, RESUMABLE, fail
from forkpoint_clients.evaluate.asker import ServerLostError, ServerRefusesError
from forkpoint_clients.evaluate.journal import JOURNAL_FILE, JournalError


@contextmanager
def resumable(command: str, out: Path, hints: Sequence[str] = ()) -> Iterator[None]:
    """Print an error that the user can act on, and end with its exit status: 3 if the same command resumes the run.

    `hints` are lines that follow the message of a server that was lost.
    """
    try:
        yield
    except (ValueError, JournalError, ServerRefusesError) as error:
        raise fail(command, error) from None
    except ServerLostError as error:
        lines = [str(error), *hints]
        if (out / JOURNAL_FILE).exists():
            lines.insert(1, f"The answers so far are in {out}; the same command continues from there.")
        raise fail(command, "\n".join(lines), RESUMABLE) from None
    except OSError as error:
        message = (
            f"cannot write: {error}\nThe answers so far are in {out}; "
            "once it can be written, the same command continues from there."
        )
        raise fail(command, message, RESUMABLE) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        message = f"stopped; the answers so far are in {out}, and the same command continues from there"
        raise fail(command, message, INTERRUPTED) from None
