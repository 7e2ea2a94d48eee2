"""Stored vectors and readouts: their files, and the digests by which servers notice that one was replaced."""

from __future__ import annotations

import time
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select, update

from forkpoint_policies.hidden.artefact import Artefact, Model

from .changes import changing
from .tables import ARTEFACTS

MAX_STORED = 64


class FullError(Exception):
    """As many artefacts are stored as can be."""


class OtherModelError(Exception):
    """The name is that of an artefact for another model, which other servers may use."""


class StoredFile(NamedTuple):
    """An artefact as it is stored: its digest and its file."""

    digest: str
    raw: bytes


def artefact_digests(connection: Connection) -> dict[str, str]:
    """The digest of each stored artefact, by name."""
    rows = connection.execute(select(ARTEFACTS.c.name, ARTEFACTS.c.digest).order_by(ARTEFACTS.c.name))
    return {row.name: row.digest for row in rows}


def read_file(database: Engine, name: str) -> StoredFile | None:
    """A stored artefact, or None."""
    query = select(ARTEFACTS.c.digest, ARTEFACTS.c.file).where(ARTEFACTS.c.name == name)
    with database.connect() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else StoredFile(row.digest, bytes(row.file))


def write_artefact(database: Engine, name: str, artefact: Artefact) -> bool:
    """Store an artefact, replacing one of that name. Returns whether the name is new.

    Raises FullError for one too many, OtherModelError where it would replace one for another model.
    """
    row = {
        "digest": artefact.digest,
        "architecture": artefact.model.architecture,
        "hidden_size": artefact.model.hidden_size,
        "file": artefact.raw,
        "changed": time.time(),
    }
    query = select(ARTEFACTS.c.name, ARTEFACTS.c.architecture, ARTEFACTS.c.hidden_size)
    with changing(database) as connection:
        models = {one.name: Model(one.architecture, one.hidden_size) for one in connection.execute(query)}
        if name in models:
            if models[name] != artefact.model:
                raise OtherModelError(str(models[name]))
            connection.execute(update(ARTEFACTS).where(ARTEFACTS.c.name == name).values(row))
            return False
        if len(models) >= MAX_STORED:
            raise FullError
        connection.execute(insert(ARTEFACTS).values(name=name, **row))
        return True


def remove_artefact(database: Engine, name: str) -> None:
    """Delete a stored artefact. Raises KeyError when there is none."""
    with changing(database) as connection:
        if not connection.execute(delete(ARTEFACTS).where(ARTEFACTS.c.name == name)).rowcount:
            raise KeyError(name)
