"""An app on a real control database. Its store is absent: whatever needs the ledger is tested in tests/e2e."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.component.api.talk import Client
from tests.unit.ingest.test_commit import Recorder
from tracker.api.app import create_app
from tracker.api.service import Limits, Service
from tracker.api.specs import Specs
from tracker.control import Control
from tracker.ingest.commit import Bounds, Committer
from tracker.ingest.intake import Intake
from tracker.slo.metrics import Metrics

NOW = 1_800_000_000_000_000
SPEC = """flow: orders
owner: team-payments
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: billing, stage: ack, after: checkout, within: 5s}
"""


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control database as the migrations leave it."""
    path = tmp_path_factory.mktemp("control") / "control.db"
    Control.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def control(tmp_path: Path, migrated: Path) -> Iterator[Control]:
    """A new control database."""
    shutil.copy(migrated, tmp_path / "control.db")
    with Control.open(f"sqlite:///{tmp_path / 'control.db'}") as opened:
        yield opened


@pytest.fixture
def recorder() -> Recorder:
    """What stands for durable rows here."""
    return Recorder()


@pytest.fixture
def service_of(control: Control, recorder: Recorder) -> Iterator[Callable[..., Service]]:
    """Makes services on that database."""
    made: list[Committer] = []

    def make(**changes: Any) -> Service:
        specs = Specs(control)
        made.append(Committer(recorder, Bounds(wait=0)))
        intake = Intake(made[-1], specs.at_ingest, salt=7, inflated=1 << 20)
        rest: dict[str, Any] = {"limits": Limits(body=100_000), **changes}
        return Service(cast(Any, None), control, intake, specs, Metrics(), lambda: NOW, **rest)

    yield make
    for committer in made:
        committer.close()


@pytest.fixture
def client_of(service_of: Callable[..., Service]) -> Iterator[Callable[..., Client]]:
    """Makes clients of such a service, as a loopback client would reach it."""
    made: list[Client] = []

    def make(**changes: Any) -> Client:
        made.append(Client(create_app(service_of(**changes))))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def client(client_of: Callable[..., Client]) -> Client:
    """A client where nobody is asked for a token."""
    return client_of(insecure=True)
