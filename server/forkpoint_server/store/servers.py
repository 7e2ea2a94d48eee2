"""The servers that share a PostgreSQL. Times are the database's, so that no host's clock matters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Double, Engine, cast, delete, func, select, update

from .database import insert, writing
from .tables import DAY_SECONDS, SERVERS

SILENT_SECONDS = 15.0
"""After so long without a heartbeat, three of them, a server is taken for dead."""
FORGET_SECONDS = DAY_SECONDS
"""How long it is remembered which server had a trace."""

NOW = cast(func.extract("epoch", func.clock_timestamp()), Double)


@dataclass(frozen=True)
class OwnServer:
    """What a server says about itself. `key` signs what others ask of it."""

    id: str
    address: str
    key: str
    model: str
    version: str


@dataclass(frozen=True)
class KnownServer:
    """Another server. `silent_seconds`: how long its last heartbeat was ago when the table was read."""

    id: str
    address: str
    key: str
    model: str
    version: str
    heartbeat: float  # seconds since 1970
    stopped: float | None  # when it ended in an orderly way
    silent_seconds: float

    @property
    def is_living(self) -> bool:
        return self.stopped is None and self.silent_seconds <= SILENT_SECONDS

    @property
    def end(self) -> str:
        """Why it cannot be asked."""
        if self.stopped is not None:
            return f"was stopped at {_utc(self.stopped)}"
        return f"has been silent since {_utc(self.heartbeat)}"


def heartbeat(database: Engine, own: OwnServer) -> Sequence[KnownServer]:
    """Say that this server lives; the other servers, the oldest first.

    After `leave` a server stays stopped: a heartbeat that was under way then may reach the database last.
    """
    with writing(database) as connection:
        row = {**asdict(own), "started": NOW, "heartbeat": NOW, "stopped": None}
        connection.execute(
            insert(connection, SERVERS)
            .values(row)
            .on_conflict_do_update(index_elements=["id"], set_={"heartbeat": NOW})
        )
        connection.execute(delete(SERVERS).where(SERVERS.c.heartbeat < NOW - FORGET_SECONDS))
        found = connection.execute(
            select(SERVERS, (NOW - SERVERS.c.heartbeat).label("silent_seconds"))
            .where(SERVERS.c.id != own.id)
            .order_by(SERVERS.c.started, SERVERS.c.id)
        )
        return [
            KnownServer(
                one.id, one.address, one.key, one.model, one.version, one.heartbeat, one.stopped, one.silent_seconds
            )
            for one in found
        ]


def leave(database: Engine, server_id: str) -> None:
    """Say that this server ends."""
    with writing(database) as connection:
        connection.execute(update(SERVERS).where(SERVERS.c.id == server_id).values(stopped=NOW))


def _utc(seconds: float) -> str:
    ago = max(0.0, time.time() - seconds)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC ({ago:.0f} s ago)"
