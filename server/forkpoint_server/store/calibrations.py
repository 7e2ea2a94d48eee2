"""The stored calibration of each model, unchanged since it was measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, select

from .changes import changing
from .database import insert
from .tables import CALIBRATIONS


def read_calibration(database: Engine, model: str) -> dict[str, Any] | None:
    """The stored calibration of a model, or None."""
    query = select(CALIBRATIONS.c.calibration).where(CALIBRATIONS.c.model == model)
    with database.connect() as connection:
        return connection.execute(query).scalar_one_or_none()


def write_calibration(database: Engine, model: str, calibration: Mapping[str, Any]) -> None:
    """Store the calibration of a model, replacing an earlier one, so that other servers notice; on return it is
    committed."""
    row = {"model": model, "calibration": dict(calibration), "changed": time.time()}
    with changing(database) as connection:
        added = insert(connection, CALIBRATIONS).values(row)
        connection.execute(added.on_conflict_do_update(index_elements=["model"], set_=row))
