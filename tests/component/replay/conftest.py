from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.replay.scene import Scene
from tracker.control import Control


@pytest.fixture(scope="session")
def empty_control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control database with the schema and nothing in it: to copy is quicker than to migrate."""
    path = tmp_path_factory.mktemp("control") / "empty.db"
    Control.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def scene(tmp_path: Path, empty_control: Path) -> Iterator[Scene]:
    """A flow in a box whose policy is `auto`."""
    made = Scene(tmp_path, "auto", empty_control)
    yield made
    made.close()


@pytest.fixture
def guarded(tmp_path: Path, empty_control: Path) -> Iterator[Scene]:
    """A flow in a box whose policy is `approve`."""
    made = Scene(tmp_path, "approve", empty_control)
    yield made
    made.close()
