"""The tables. The migrations make them; a test holds that both say the same."""

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
    SmallInteger,
    String,
    Table,
)

METADATA = MetaData()

CHANGES = Table(
    "changes",
    METADATA,
    Column("what", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""A counter of the changes of policies and experiments: other servers look at it to see whether there is something new."""

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
"""Periods in which an experiment's weights, and what of it runs, did not change; the last one is now."""

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
    Column("tokens", Integer, nullable=False),
    Column("reasoning_tokens", Integer),
    Column("latency_seconds", Double, nullable=False),
    Column("finish_reason", String(32), nullable=False),
    Column("error", SmallInteger, nullable=False),
    Column("truncated", SmallInteger, nullable=False),
    Column("mean_entropy", Double),
    Column("mean_entropy_forks", Double),
    Column("mean_entropy_execution", Double),
    Column("forks", Integer),
    Column("triggered", Integer, nullable=False),
    Column("watched", Integer, nullable=False, server_default="-1"),
    Index("assignments_by_unit", "experiment", "arm", "unit"),
    Index("assignments_by_age", "created"),
)
"""One row for each request of an experiment.

`unit` is the start of its salted hash as a signed number. `epoch` is the one in which it came, `stratum` the one in which its part
of the hash space was given to its arm. `triggered` has a bit per arm, in the order of the definition: would its policy have acted?
`watched` has one for each arm of which that was found out.
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
"""Which metrics an experiment has outcomes of: few, so that labels are bounded."""

CALIBRATIONS = Table(
    "calibrations",
    METADATA,
    Column("model", String(512), primary_key=True),
    Column("calibration", JSON, nullable=False),
    Column("changed", Double, nullable=False),
)
