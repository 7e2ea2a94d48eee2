"""Add the arms whose policies were evaluated on a request."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("assignments", sa.Column("watched", sa.Integer, nullable=False, server_default="-1"))
