"""Run by Alembic, with a connection that `tracker.control.migrate` (or a developer's script) has put in the config."""

from alembic import context
from sqlalchemy.engine import Connection

from tracker.control.migrate import VERSION_TABLE
from tracker.control.tables import Base


def run(connection: Connection) -> None:
    """SQLite's DDL is transactional, though Alembic assumes that it is not."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])
