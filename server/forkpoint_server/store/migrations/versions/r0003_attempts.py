"""Add the attempts at a request that were not completed, and the id of the response beside the client's."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("assignments", sa.Column("response_id", sa.String(320)))
    op.add_column("assignments", sa.Column("attempt", sa.String(32), nullable=False, server_default=""))
    op.create_index("assignments_by_response", "assignments", ["experiment", "response_id"])
    op.create_table(
        "attempts",
        sa.Column("experiment", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.String(256), primary_key=True),
        sa.Column("attempt", sa.String(32), primary_key=True),
        sa.Column("server", sa.String(16), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("latency_seconds", sa.Double, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("finish_reason", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment", "request_id"], ["assignments.experiment", "assignments.request_id"], ondelete="CASCADE"
        ),
    )
