"""One installation for all properties of a module: opening the engine costs a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world.installation import Installation


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of its own for the module."""
    world = Installation(tmp_path_factory.mktemp("installation"))
    yield world
    world.close()
