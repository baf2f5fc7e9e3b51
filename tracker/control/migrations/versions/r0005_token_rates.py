"""How much a token may send per second, where that is not what all may.

Cost: metadata
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name in ("rate_events", "rate_bytes"):
        op.add_column("tokens", sa.Column(name, sa.Double(), nullable=True))
