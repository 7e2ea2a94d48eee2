"""The vectors and readouts of a running server: each is at the workers before a policy can name it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Engine

from forkpoint_policies.hidden.artefact import SUFFIX, Artefact, Model, read_artefact
from forkpoint_policies.spec import InputError
from forkpoint_server.store.artefacts import read_file
from forkpoint_server.store.executor import in_thread

logger = logging.getLogger(__name__)

Origin = Literal["built in", "folder", "stored"]
Push = Callable[[Artefact], Awaitable[str]]
"""Sends an artefact to every worker; the result is empty, or what is wrong."""


@dataclass(frozen=True, eq=False)
class NamedArtefact:
    """`problem` says why the served model cannot use it; it is empty where it can."""

    name: str
    artefact: Artefact
    origin: Origin
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "object": "vector",
            "name": self.name,
            **self.artefact.to_dict(),
            "origin": self.origin,
            "problem": self.problem or None,
        }


class ServedArtefacts:
    """`fixed` are those that the server was started with; the stored ones change.

    `on_change` is called with the usable ones, by name, whenever they have changed.
    """

    def __init__(
        self,
        database: Engine,
        model: Model,
        push: Push,
        fixed: Iterable[NamedArtefact] = (),
        on_change: Callable[[Mapping[str, Artefact]], None] = lambda _: None,
    ) -> None:
        self._database = database
        self.model = model
        self._push = push
        self._fixed = {one.name: one for one in fixed}
        self._stored: dict[str, NamedArtefact] = {}
        self.on_change = on_change

    async def start(self) -> None:
        """Send the fixed ones. Raises InputError for one that the served model cannot use."""
        for one in self._fixed.values():
            field = f"--vectors: {one.name}{SUFFIX}"
            if one.artefact.model != self.model:
                raise InputError(field, f"is for {one.artefact.model}, but the served model is {self.model}")
            if problem := await self._push(one.artefact):
                raise InputError(field, problem)

    async def follow(self, digests: Mapping[str, str]) -> None:
        """Read and send what was stored since, given the digest of each stored artefact. Raises UnavailableError."""
        known = self._stored
        found = {}
        for name, digest in digests.items():
            if name in known and known[name].artefact.digest == digest:
                found[name] = known[name]
            elif (read := await self._read(name)) is not None:
                found[name] = read
        if found != known:
            self._stored = found
            self.on_change(self.usable)

    @property
    def named(self) -> dict[str, NamedArtefact]:
        """All, by name; a fixed one hides a stored one of its name."""
        return {**self._stored, **self._fixed}

    @property
    def usable(self) -> dict[str, Artefact]:
        """Those that policies can name."""
        return {name: one.artefact for name, one in sorted(self.named.items()) if not one.problem}

    def is_fixed(self, name: str) -> bool:
        return name in self._fixed

    async def _read(self, name: str) -> NamedArtefact | None:
        file = await in_thread(read_file, self._database, name)
        if file is None:  # deleted since
            return None
        try:
            artefact = read_artefact(file.raw, name)
        except InputError as error:  # written by another version
            logger.warning("the stored vector or readout %s cannot be read: %s", name, error)
            return None
        problem = f"is for {artefact.model}" if artefact.model != self.model else await self._push(artefact)
        if problem:
            logger.warning("the stored vector or readout %s is not used: it %s", name, problem)
        return NamedArtefact(name, artefact, "stored", problem)
