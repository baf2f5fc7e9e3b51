import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracker.control import Control
from tracker.control.database import Database, engine_for


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the schema and nothing in it: to copy is quicker than to migrate."""
    path = tmp_path_factory.mktemp("control") / "empty.db"
    Control.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def control_url(tmp_path: Path) -> str:
    """Where a SQLite file of the test's own may be. The same tests run on PostgreSQL in `tests/brokers`."""
    return f"sqlite:///{tmp_path}/control.db"


@pytest.fixture
def control(control_url: str, tmp_path: Path, empty_database: Path) -> Iterator[Control]:
    """An open, empty control database at `control_url`."""
    shutil.copy(empty_database, tmp_path / "control.db")
    with Control(Database(engine_for(control_url))) as opened:
        yield opened
