import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from tracker.control import Control
from tracker.control.errors import Broken
from tracker.control.migrate import VERSION_TABLE
from tracker.control.tables import Base


class TestSchema:
    def test_the_migrations_make_the_tables_of_the_model(self, control: Control) -> None:
        """All migrations together equal `tables`, as Alembic compares them."""
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        with control._database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, Base.metadata) == []

    def test_a_database_of_a_newer_version_is_left_alone(self, control_url: str, control: Control) -> None:
        """The error names both versions and what to do; nothing is changed."""
        with control._database.write() as session:
            session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        control.close()
        with pytest.raises(Broken, match=r"schema 9999, this tracker knows up to \d{4}: .*newer tracker"):
            Control.open(control_url)
