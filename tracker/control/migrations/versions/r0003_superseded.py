"""Findings that another kind took the place of, counted per incident.

Cost: metadata
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("incidents", sa.Column("superseded", LONG, nullable=False, server_default="0"))
