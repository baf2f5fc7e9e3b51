"""Brings a control database to this version's schema. One at a time, all or nothing."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text
from sqlalchemy.engine import Connection

from tracker.control.database import translated
from tracker.control.errors import Broken

VERSION_TABLE = "control_version"
"""Not Alembic's default name: another application in the same database may use that."""
MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK_KEY = 0x6D745F636F6E7472  # "mt_contr": any constant, equal in all versions

_one_per_process = threading.Lock()
"""Alembic keeps its environment in module globals."""


def migrate(engine: Engine) -> None:
    """Run the migrations that are missing, in one transaction, while no other tracker does.

    Raises `Broken` when the database belongs to a newer version, `Unavailable` when it cannot be reached.
    """
    writer = engine.execution_options(tracker_writes=True)
    with _one_per_process, translated(engine.url), writer.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        if _is_behind(connection, ScriptDirectory.from_config(config)):
            command.upgrade(config, "head")


def _is_behind(connection: Connection, scripts: ScriptDirectory) -> bool:
    current = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if current == scripts.get_current_head():
        return False
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise Broken(
            f"the control database is at schema {current}, this tracker knows up to {scripts.get_current_head()}: "
            "it was opened by a newer tracker; run that version, or restore the backup made before the upgrade"
        )
    return True
