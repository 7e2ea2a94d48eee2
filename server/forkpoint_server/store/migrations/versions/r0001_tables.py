"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("what", sa.String(16), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "policies",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("policy", sa.JSON, nullable=False),
        sa.Column("changed", sa.Double, nullable=False),
    )
    op.create_table(
        "experiments",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("definition", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "epochs",
        sa.Column("experiment", sa.Integer, sa.ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("arms", sa.JSON, nullable=False),
        sa.Column("begun", sa.Double, nullable=False),
    )
    op.create_table(
        "assignments",
        sa.Column("experiment", sa.Integer, sa.ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("request_id", sa.String(256), primary_key=True),
        sa.Column("server", sa.String(16), nullable=False),
        sa.Column("arm", sa.String(64), nullable=False),
        sa.Column("unit", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("stratum", sa.Integer, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("reasoning_tokens", sa.Integer),
        sa.Column("latency_seconds", sa.Double, nullable=False),
        sa.Column("finish_reason", sa.String(32), nullable=False),
        sa.Column("error", sa.SmallInteger, nullable=False),
        sa.Column("truncated", sa.SmallInteger, nullable=False),
        sa.Column("mean_entropy", sa.Double),
        sa.Column("mean_entropy_forks", sa.Double),
        sa.Column("mean_entropy_execution", sa.Double),
        sa.Column("forks", sa.Integer),
        sa.Column("triggered", sa.Integer, nullable=False),
    )
    op.create_index("assignments_by_unit", "assignments", ["experiment", "arm", "unit"])
    op.create_index("assignments_by_age", "assignments", ["created"])
    op.create_table(
        "outcomes",
        sa.Column("experiment", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.String(256), primary_key=True),
        sa.Column("metric", sa.String(64), primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment", "request_id"], ["assignments.experiment", "assignments.request_id"], ondelete="CASCADE"
        ),
    )
    op.create_table(
        "outcome_metrics",
        sa.Column("experiment", sa.Integer, sa.ForeignKey("experiments.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("metric", sa.String(64), primary_key=True),
    )
    op.create_table(
        "calibrations",
        sa.Column("model", sa.String(512), primary_key=True),
        sa.Column("calibration", sa.JSON, nullable=False),
        sa.Column("changed", sa.Double, nullable=False),
    )
    op.execute("INSERT INTO changes (what, number) VALUES ('definitions', 0)")


def downgrade() -> None:
    raise NotImplementedError(
        "restore the database from a copy: older versions do not know what newer ones have written"
    )
