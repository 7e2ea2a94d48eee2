"""Add how many tokens a request's policy is expected to have changed: the dose of its arm."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("assignments", sa.Column("effect", sa.Double))
