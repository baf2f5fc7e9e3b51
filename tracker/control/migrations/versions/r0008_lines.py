"""Which messages of a replay go one after the other, where their flow asks for order.

Cost: metadata
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("replay_messages", sa.Column("line", sa.Text(), server_default=sa.text("''"), nullable=False))
    in_line = sa.text("line <> ''")
    op.create_index(
        "ix_replay_messages_replay_id_line_ordinal", "replay_messages", ["replay_id", "line", "ordinal"],
        sqlite_where=in_line, postgresql_where=in_line,
    )  # fmt: skip
