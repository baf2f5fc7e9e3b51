"""All migrations together make the schema that is kept for reading, and can be applied any number of times."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from tests.store.conftest import ROOT
from tests.store.schema import KEPT, schema_of
from tracker.model.errors import Invalid
from tracker.store import Store
from tracker.store.migrate import migrate, migrations

OPEN = "import sys; from tracker.store import Store; store = Store.open(sys.argv[1]); print('open', flush=True); "


def test_migrations_make_the_kept_schema(new_store: Callable[[], Store]) -> None:
    """Whoever adds a migration sees in one file what it made: `python -m tests.store.schema` writes it anew."""
    assert schema_of(new_store()) == KEPT.read_text(encoding="utf-8"), "run `python -m tests.store.schema`"


def test_a_second_time_nothing_is_left_to_apply(new_store: Callable[[], Store]) -> None:
    """Each migration is applied once, whoever starts."""
    assert new_store().migrate() == []


def test_a_migration_that_a_crash_cut_short_is_done_again(new_store: Callable[[], Store]) -> None:
    """Its row is written last, and each statement may be repeated: tables that exist stay as they are."""
    store = new_store()
    db = store.engine.database
    store.engine.command(f"TRUNCATE TABLE {db}.migrations")
    store.engine.command(f"DROP TABLE {db}.quarantine")
    assert migrate(store.engine) == [name for name, _ in migrations()]
    assert schema_of(store) == KEPT.read_text(encoding="utf-8")


def test_every_migration_may_be_done_twice(embedded_folder: Path) -> None:
    """A crash between its last statement and its row: the next start does it again, on what it made."""
    store = Store.open(f"chdb://{embedded_folder}?database=twice", durability="process")
    for count, (name, _) in enumerate(migrations(), 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tracker.store.migrate.migrations", lambda count=count: islice(migrations(), count))
            assert migrate(store.engine) == [name]
            store.engine.command("ALTER TABLE twice.migrations DELETE WHERE name = {name:String} "
                                 "SETTINGS mutations_sync = 1", {"name": name})  # fmt: skip
            assert migrate(store.engine) == [name]
    assert schema_of(store) == KEPT.read_text(encoding="utf-8")
    store.close()


def test_a_store_of_a_newer_version_is_left_alone(new_store: Callable[[], Store]) -> None:
    """An older tracker does not write into a schema that it does not know."""
    store = new_store()
    store.engine.command(f"INSERT INTO {store.engine.database}.migrations (name) VALUES ('9999_later')")
    with pytest.raises(Invalid, match=r"newer version .9999_later.: upgrade this one"):
        store.migrate()


def test_a_held_folder_names_folder_and_way_out(tmp_path: Path) -> None:
    """An embedded store has one owner; the second process is told which folder, and what to do."""
    url = f"chdb://{tmp_path}/held"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(
        [sys.executable, "-c", OPEN + "sys.stdin.read()", url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        second = subprocess.run(
            [sys.executable, "-c", OPEN, url], capture_output=True, env=environment, text=True, timeout=60, check=False
        )
    finally:
        holder.communicate(timeout=60)
    assert second.returncode == 1
    last = second.stderr.strip().splitlines()[-1]
    assert "tracker.model.errors.Unavailable" in last
    assert f"{tmp_path}/held is held by another process" in last
    assert "TRACKER_URL" in last
