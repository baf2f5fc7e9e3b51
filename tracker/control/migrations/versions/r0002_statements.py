"""Statements: signed, chained per flow, only ever added.

Cost: metadata
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

LONG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SQLITE_APPEND_ONLY = """
CREATE TRIGGER statements_{act} BEFORE {act} ON statements
BEGIN SELECT RAISE(ABORT, 'statements are append-only'); END
"""
POSTGRESQL_REFUSE = """
CREATE FUNCTION statements_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'statements are append-only'; END $$
"""
POSTGRESQL_APPEND_ONLY = """
CREATE TRIGGER statements_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON statements
FOR EACH STATEMENT EXECUTE FUNCTION statements_refuse()
"""


def upgrade() -> None:
    op.create_table(
        "statements",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("number", LONG, autoincrement=False, nullable=False),
        sa.Column("previous", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("made_at", LONG, nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("start", LONG, nullable=False),
        sa.Column("end", LONG, nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("flow", "number", name=op.f("pk_statements")),
        sa.UniqueConstraint("flow", "previous", name=op.f("uq_statements_flow_previous")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(POSTGRESQL_REFUSE)
        op.execute(POSTGRESQL_APPEND_ONLY)
        return
    for act in ("UPDATE", "DELETE"):
        op.execute(SQLITE_APPEND_ONLY.format(act=act))
