"""The newest attempt that is known to have arrived: what an earlier one brings later was late. Of messages that are
under way nobody knows any more which ones did: all before the present one count as known.

Cost: metadata, and a write of the messages that replays have under way
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("replay_messages", sa.Column("arrived", LONG, server_default="0", nullable=False))
    op.execute(
        "UPDATE replay_messages SET arrived = CASE WHEN state IN ('claimed', 'in_doubt') THEN attempt - 1 ELSE attempt "
        "END WHERE attempt > 0 AND state IN ('planned', 'claimed', 'in_doubt', 'sent')"
    )
