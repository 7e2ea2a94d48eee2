"""The stored calibration of each model."""

from __future__ import annotations

from sqlalchemy import Engine

from forkpoint_server.store.calibrations import read_calibration, write_calibration


def test_a_models_calibration(database: Engine) -> None:
    assert read_calibration(database, "m") is None
    write_calibration(database, "m", {"fork_threshold": 0.5, "interval": [0.4, 0.6]})
    write_calibration(database, "other", {"fork_threshold": 1.5})
    write_calibration(database, "m", {"fork_threshold": 0.7})
    assert read_calibration(database, "m") == {"fork_threshold": 0.7}
