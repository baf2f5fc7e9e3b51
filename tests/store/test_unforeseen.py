"""What nobody foresaw in the middle of a pass, and databases that do not belong together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.cli.together import together
from tracker.control import Control
from tracker.model.coverage import SourceRef
from tracker.model.errors import Invalid, Unavailable
from tracker.reconcile.books import reconcile

SPEC = (
    "flow: orders\ncheckpoints:\n  - {hop: shop, stage: produce}\n  - {hop: log, stage: ack, after: shop, within: 5s}\n"
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Installation]:
    """One installation."""
    installation = Installation(tmp_path)
    yield installation
    installation.close()


def test_a_defect_in_a_pass_loses_no_coverage(world: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same reconciler does the pass again, and stores what was vouched for in it."""
    spec = world.put(SPEC)
    world.vouch([SourceRef("orders", "shop", "produce", "s")])
    keep = world.store.keep

    def broken(table: str, columns: Any) -> None:
        if table == "coverage":
            raise OverflowError("nobody foresaw this")
        keep(table, columns)

    monkeypatch.setattr(world.store, "keep", broken)
    with pytest.raises(OverflowError):
        world.run_pass()
    monkeypatch.undo()
    world.run_pass()
    assert world.store.coverage(spec).vouches("shop", "produce")


def test_books_that_two_passes_overtook(world: Installation) -> None:
    """Where the control database knows less passes than the ledger, the books end with what to do, not never."""
    spec = world.put(SPEC)
    world.observe([event("shop:produce", 0)])
    for _ in range(3):
        world.run_pass()
        world.now += 10_000_000
        world.observe([event("shop:produce", 0)])
    world.store.engine.command(f"INSERT INTO {world.store.engine.database}.states SELECT * REPLACE(pass + 7 AS pass) "
                               f"FROM {world.store.engine.database}.states FINAL")  # fmt: skip
    with pytest.raises(Unavailable, match="ask again"):
        reconcile(world.store, world.control, spec, 0, 1 << 61)


def test_a_control_database_of_another_ledger_is_refused(world: Installation, tmp_path: Path) -> None:
    """As from another folder, or when its volume is not mounted: both are named, and what to do."""
    together(world.store, world.control, "one")
    together(world.store, world.control, "one")
    with Control.open(f"sqlite:///{tmp_path}/other.db") as other:
        with pytest.raises(Invalid, match=r"control database two .* TRACKER_CONTROL"):
            together(world.store, other, "two")
        together(world.store, other, "two", adopt=True)
        together(world.store, other, "two")


def test_a_control_database_from_a_backup_goes_on(world: Installation, tmp_path: Path) -> None:
    """Its passes begin behind those of the ledger, also the one that was under way then, and every verdict is right."""
    spec = world.put(SPEC)
    world.observe([event("shop:produce", 0)])
    world.run_pass()
    world.control.passes.begin(world.now + 1, world.control.passes.last_finished().bounds)
    world.control.close()
    shutil.copy(tmp_path / "control.db", tmp_path / "backup.db")
    world.control = Control.open(f"sqlite:///{tmp_path}/control.db")
    for ident in ("a", "b"):
        world.now += 10_000_000
        world.observe([event("shop:produce", 0, message_id=ident)])
        world.restarted().run_pass()
        world.run_pass()
    world.control.close()
    world.control = Control.open(f"sqlite:///{tmp_path}/backup.db")
    together(world.store, world.control, "backup")
    world.now += 10_000_000
    world.observe([event("log:ack", 1, message_id="a", received=40)])
    world.restarted().run_pass()
    assert {s["message_id"]: s["verdict"] for s in world.store.message_states("orders")}["a"] in ("delivered", "late")
    assert reconcile(world.store, world.control, spec, 0, 1 << 61).conserved
