"""Rulings on findings until a pass has carried them out, and when somebody first acted on an incident.

Cost: metadata
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SAID = ("flow", "incident", "message_id", "hop", "stage", "status", "by")


def upgrade() -> None:
    op.create_table(
        "rulings",
        sa.Column("number", LONG, nullable=False),
        sa.Column("at", LONG, nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in SAID),
        sa.Column("taken_by", LONG, nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_rulings")),
    )
    op.add_column("incidents", sa.Column("acted_at", LONG, nullable=True))
    op.execute("UPDATE incidents SET acted_at = acknowledged_at")
