import os
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tracker.control import Control
from tracker.control.database import Database, engine_for
from tracker.control.errors import Broken, Conflict, Invalid, Unavailable
from tracker.control.tables import Base


def _schema(engine: Engine) -> set[str]:
    query = text("SELECT sql FROM sqlite_master WHERE type IN ('table', 'index') AND tbl_name != 'control_version'")
    with engine.connect() as connection:
        return {" ".join(sql.split()) for sql in connection.scalars(query) if sql}


class TestFile:
    def test_the_migrations_write_the_very_statements_of_the_model(self, control: Control, tmp_path: Path) -> None:
        """Also checks and names of constraints, which Alembic does not compare on SQLite."""
        engine = engine_for(f"sqlite:///{tmp_path}/model.db")
        Base.metadata.create_all(engine)
        assert _schema(control._database.engine) == _schema(engine)
        engine.dispose()

    def test_folders_are_made_and_nobody_else_can_read(self, tmp_path: Path) -> None:
        """The file holds the salt of key hashes; so do the files beside it while it is open."""
        path = tmp_path / "a" / "b" / "control.db"
        with Control.open(f"sqlite:///{path}") as control:
            control.settings.put("a", "1")
            files = sorted(path.parent.iterdir())
            assert [file.name for file in files] == ["control.db", "control.db-shm", "control.db-wal"]
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert os.listdir(path.parent) == ["control.db"]

    def test_every_connection_has_the_promised_settings(self, control: Control) -> None:
        """WAL, full sync, foreign keys, and patience with a lock."""
        with control._database.read() as session:
            values = [
                session.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
            assert values == ["wal", 2, 1]
            assert session.scalar(text("PRAGMA busy_timeout")) >= 5000

    def test_a_reader_is_not_stopped_by_a_writer(self, control: Control) -> None:
        """It sees what was committed last."""
        control.settings.put("a", "1")
        with control.transaction() as books:
            books.settings.put("a", "2")
            assert control.settings.get("a") == "1"

    def test_foreign_keys_hold(self, control: Control) -> None:
        """A message without its replay is a conflict, not an orphan."""
        insert = "INSERT INTO incident_entries (incident_id, at, who, what) VALUES ('nobody', 1, 'ann', 'x')"
        with pytest.raises(Conflict, match="FOREIGN KEY"), control._database.write() as session:
            session.execute(text(insert))

    def test_a_lock_that_another_process_keeps_is_unavailable(self, control: Control, tmp_path: Path) -> None:
        """After the wait the error names the database and can be tried again."""
        engine = engine_for(f"sqlite:///{tmp_path}/control.db")
        impatient = Control(Database(engine))
        other = sqlite3.connect(tmp_path / "control.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=1")  # kept by the pooled connection
        with pytest.raises(Unavailable, match=r"control\.db is not available: database is locked"):
            impatient.settings.put("a", "1")
        other.execute("ROLLBACK")
        other.close()
        impatient.settings.put("a", "1")
        impatient.close()


class TestOpening:
    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
    def test_memory_is_no_place_for_it(self, url: str) -> None:
        """The error says why."""
        with pytest.raises(Invalid, match="must be a file"):
            Control.open(url)

    @pytest.mark.parametrize(
        "url", ["", "control.db", "mysql://x/y", "postgresql+asyncpg://x/y", "sqlite+aiosqlite:///x"]
    )
    def test_an_unknown_url_gets_an_example(self, url: str) -> None:
        """What may be written instead is in the error."""
        with pytest.raises(Invalid, match=r"write sqlite:////var/lib/tracker/control\.db or postgresql\+psycopg://"):
            Control.open(url)

    def test_a_password_never_shows(self) -> None:
        """Neither of a URL that is refused nor of one that cannot be reached."""
        for url in ("mysql://u:hunter2@h/d", "postgresql://u:hunter2@127.0.0.1:1/d"):
            with pytest.raises((Invalid, Unavailable)) as caught:
                Control.open(url)
            assert "hunter2" not in str(caught.value)

    def test_a_server_that_is_not_there_is_unavailable(self) -> None:
        """The error names where it was looked for."""
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/d is not available"):
            Control.open("postgresql://u@127.0.0.1:1/d")

    def test_a_file_that_is_something_else_is_broken(self, tmp_path: Path) -> None:
        """It is named and left as it is."""
        path = tmp_path / "notes.txt"
        path.write_text("dear diary, " * 100)
        with pytest.raises(Broken, match=r"notes\.txt: file is not a database"):
            Control.open(f"sqlite:///{path}")
        assert path.read_text().startswith("dear diary")

    def test_a_path_that_cannot_be_is_named(self, tmp_path: Path) -> None:
        """A file where a folder should be."""
        (tmp_path / "file").write_text("")
        with pytest.raises(Unavailable, match=r"file/control\.db cannot be opened"):
            Control.open(f"sqlite:///{tmp_path}/file/control.db")
