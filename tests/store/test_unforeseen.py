"""What nobody foresaw in the middle of a pass, and databases that do not belong together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.model.case import event
from tests.world.installation import Installation
from tracker.model.coverage import SourceRef
from tracker.model.errors import Unavailable
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
