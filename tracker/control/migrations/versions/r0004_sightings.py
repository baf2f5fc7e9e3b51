"""What OTLP spans told of messages that no flow took.

Cost: metadata
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEY = ("service", "system", "destination", "operation", "reason", "flow")


def upgrade() -> None:
    op.create_table(
        "sightings",
        *(sa.Column(name, sa.Text(), nullable=False) for name in KEY),
        sa.Column("count", LONG, nullable=False),
        sa.Column("first_seen", LONG, nullable=False),
        sa.Column("last_seen", LONG, nullable=False),
        sa.Column("samples", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint(*KEY, name=op.f("pk_sightings")),
    )
