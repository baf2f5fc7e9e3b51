"""What every test may use, and what every property asks of the machine: nothing. How quick it is fails no test."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [f"tests.servers.{name}" for name in ("plugin", "postgres", "redis", "nats", "activemq", "mosquitto")]

settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

LONGEST = ("e2e", "faces", "contract", "brokers", "store")
"""Folders whose files take longest."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that no worker is alone with it in the end; else the order stays as it is."""
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)
