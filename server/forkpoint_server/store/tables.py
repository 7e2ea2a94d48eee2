"""The tables. The migrations create them; a test checks that both agree."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
)

from .built_in_metrics import BUILT_IN_METRICS

METADATA = MetaData()
DAY_SECONDS = 86_400.0

CHANGES = Table(
    "changes",
    METADATA,
    Column("what", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""Counts the changes of policies and experiments, so that other servers notice them."""

POLICIES = Table(
    "policies",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("policy", JSON, nullable=False),
    Column("changed", Double, nullable=False),
)

EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("definition", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created", Double, nullable=False),
    sqlite_autoincrement=True,  # the number of a deleted experiment never comes back
)

EPOCHS = Table(
    "epochs",
    METADATA,
    Column("experiment", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("arms", JSON, nullable=False),
    Column("begun", Double, nullable=False),
)
"""Periods in which neither the weights nor the statuses of an experiment's arms changed; the last one is current."""

ASSIGNMENTS = Table(
    "assignments",
    METADATA,
    Column("experiment", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("server", String(16), nullable=False),
    Column("arm", String(64), nullable=False),
    Column("unit", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("stratum", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("prompt_tokens", Integer),
    *(metric.column() for metric in BUILT_IN_METRICS),
    Column("finish_reason", String(32), nullable=False),
    Column("mean_entropy_forks", Double),
    Column("mean_entropy_execution", Double),
    Column("forks", Integer),
    Column("triggered", Integer, nullable=False),
    Column("watched", Integer, nullable=False, server_default="-1"),
    Index("assignments_by_unit", "experiment", "arm", "unit"),
    Index("assignments_by_age", "created"),
)
"""One row for each request of an experiment.

`unit` is the start of its salted hash as a signed number. `epoch` is the epoch of the request, `stratum` the one in
which its arm received the unit's part of the hash space. `triggered` has one bit per arm, in the order of the
definition: would the arm's policy have acted? `watched` has the bits of the arms for which that was evaluated.
"""

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("experiment", Integer, primary_key=True),
    Column("request_id", String(256), primary_key=True),
    Column("metric", String(64), primary_key=True),
    Column("value", Double, nullable=False),
    Column("created", Double, nullable=False),
    ForeignKeyConstraint(
        ["experiment", "request_id"], ["assignments.experiment", "assignments.request_id"], ondelete="CASCADE"
    ),
)  # fmt: skip

OUTCOME_METRICS = Table(
    "outcome_metrics",
    METADATA,
    Column("experiment", Integer, ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("metric", String(64), primary_key=True),
)
"""The metrics that an experiment has outcomes of: few, so that the labels of metrics are bounded."""

CALIBRATIONS = Table(
    "calibrations",
    METADATA,
    Column("model", String(512), primary_key=True),
    Column("calibration", JSON, nullable=False),
    Column("changed", Double, nullable=False),
)
