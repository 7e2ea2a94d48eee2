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
    LargeBinary,
    MetaData,
    String,
    Table,
)

from .built_in_metrics import BUILT_IN_METRICS

METADATA = MetaData()
DAY_SECONDS = 86_400.0
MAX_ID_LENGTH = 256
MAX_RESPONSE_ID_LENGTH = 320
"""vLLM puts a few characters before and after a client's id."""
MAX_MODEL_LENGTH = 512
MAX_OUTCOME = 1e100
"""The largest absolute value of an outcome: the squares of larger ones overflow."""

CHANGES = Table(
    "changes",
    METADATA,
    Column("what", String(16), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
"""Counts the changes of policies, experiments and calibrations, so that other servers notice them."""

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
    Column("request_id", String(MAX_ID_LENGTH), primary_key=True),
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
    Column("response_id", String(MAX_RESPONSE_ID_LENGTH)),
    Column("attempt", String(32), nullable=False, server_default=""),
    Column("effect", Double),
    Index("assignments_by_unit", "experiment", "arm", "unit"),
    Index("assignments_by_response", "experiment", "response_id"),
    Index("assignments_by_age", "created"),
)
"""One row for each request of an experiment.

`request_id` is the client's id of the request, else the response's. A gateway that retries keeps its id: of several
attempts the row is that of the first completed one, or of the first. `attempt` tells them apart.
`unit` is the start of its salted hash as a signed number. `epoch` is the epoch of the request, `stratum` the one in
which its arm received the unit's part of the hash space. `triggered` has one bit per arm, in the order of the
definition: would the arm's policy have acted? `watched` has the bits of the arms for which that was evaluated.
`effect` is the expected number of tokens that the arm's policy changed; earlier versions did not record it.
"""

ATTEMPTS = Table(
    "attempts",
    METADATA,
    Column("experiment", Integer, primary_key=True),
    Column("request_id", String(MAX_ID_LENGTH), primary_key=True),
    Column("attempt", String(32), primary_key=True),
    Column("server", String(16), nullable=False),
    Column("created", Double, nullable=False),
    Column("latency_seconds", Double, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("finish_reason", String(32), nullable=False),
    ForeignKeyConstraint(
        ["experiment", "request_id"], ["assignments.experiment", "assignments.request_id"], ondelete="CASCADE"
    ),
)  # fmt: skip
"""The attempts at a request that do not count: those that were not completed, beside the one in ASSIGNMENTS."""

OUTCOMES = Table(
    "outcomes",
    METADATA,
    Column("experiment", Integer, primary_key=True),
    Column("request_id", String(MAX_ID_LENGTH), primary_key=True),
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
    Column("model", String(MAX_MODEL_LENGTH), primary_key=True),
    Column("calibration", JSON, nullable=False),
    Column("changed", Double, nullable=False),
)

ARTEFACTS = Table(
    "artefacts",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("architecture", String(256), nullable=False),
    Column("hidden_size", Integer, nullable=False),
    Column("file", LargeBinary, nullable=False),
    Column("changed", Double, nullable=False),
)
"""Vectors and readouts, each as its safetensors file."""

SERVERS = Table(
    "servers",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("address", String(256), nullable=False),
    Column("key", String(64), nullable=False),
    Column("model", String(MAX_MODEL_LENGTH), nullable=False),
    Column("version", String(32), nullable=False),
    Column("started", Double, nullable=False),
    Column("heartbeat", Double, nullable=False),
    Column("stopped", Double),
)
"""The servers that share a PostgreSQL, those that ended within a day among them. SQLite's servers are not in it."""
