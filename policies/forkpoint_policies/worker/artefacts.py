"""The vectors and readouts that a worker has: the server sends each before a policy that names it arrives."""

from __future__ import annotations

from collections import OrderedDict

from forkpoint_policies.hidden.artefact import Artefact, read_artefact
from forkpoint_policies.spec import InputError

MAX_HELD = 128
"""Twice as many as a server names at once: requests that run may still use replaced ones."""


class WorkerArtefacts:
    """By digest. Beyond `max_held`, those are dropped that were sent longest ago."""

    def __init__(self, max_held: int = MAX_HELD) -> None:
        self._max_held = max_held
        self._held: OrderedDict[str, Artefact] = OrderedDict()

    def put(self, raw: bytes) -> str:
        """Keep an artefact, from its file; empty, or what is wrong with it."""
        try:
            artefact = read_artefact(raw, "artefact")
        except InputError as error:
            return str(error)
        self._held[artefact.digest] = artefact
        self._held.move_to_end(artefact.digest)
        if len(self._held) > self._max_held:
            self._held.popitem(last=False)
        return ""

    def get(self, digest: str) -> Artefact | None:
        """The artefact of this digest, if it was sent and not dropped since."""
        return self._held.get(digest)


ARTEFACTS = WorkerArtefacts()
"""Of this process."""
