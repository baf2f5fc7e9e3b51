"""Mid-stream: after every pass, verdict and flags of every message are what is true at that moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.simulate.worlds import scenario
from tracker.cli.simulate import Here
from tracker.simulate.run import run
from tracker.simulate.scenario import Scenario
from tracker.simulate.truth import FLAGS, truth
from tracker.simulate.watchers import watchers
from tracker.simulate.wire import ident
from tracker.simulate.world import World

HOLES = scenario(
    {"kind": "drop", "place": "billing", "share": 0.1},
    {"kind": "delay", "place": "billing", "share": 0.2, "by": "25s"},
    {"kind": "swallow", "place": "kafka-eu", "share": 0.1},
    {"kind": "dead_letter", "place": "billing", "share": 0.1},
    {"kind": "collector_crash", "place": "kafka-us", "start": "10s", "lasts": "25s"},
    {"kind": "collector_silence", "place": "billing", "start": "20s", "lasts": "6s"},
    report_every="6s",
)


class Watched(Here):
    """The service; what it says after each pass is held to the truth of that moment."""

    def __init__(self, folder: Path, world: Scenario, seed: int) -> None:
        super().__init__(folder)
        self.world = World(world, seed)
        self.watching = watchers(self.world)
        self.wrong: list[Any] = []
        self.verdicts: set[str] = set()

    def judge(self) -> None:
        """One pass, and a look."""
        super().judge()
        path = f"/v1/flows/{self.world.scenario.flow['flow']}/messages"
        items = self.request("GET", path, params={"limit": 1000}).json()["items"]
        found = {one["message_id"]: (one["verdict"], sorted(one["flags"])) for one in items}
        true = truth(self.world, self.watching, self._now)
        for m in range(self.world.count):
            name = ident(self.world, m)
            flags = sorted(flag for flag in FLAGS if true.flags[flag][m])
            wanted = (str(true.verdict[m]), flags) if true.heard[m] else None
            if wanted != found.get(name):
                self.wrong.append((self._now, name, wanted, found.get(name)))
            self.verdicts |= {wanted[0]} if wanted else set()


@pytest.mark.slow
def test_after_every_pass_all_that_is_said_is_true(tmp_path: Path) -> None:
    """No tolerance: what is known at a moment is said at that moment, and nothing that is not."""
    service = Watched(tmp_path, HOLES, seed=1)
    try:
        run(service, HOLES, seed=1)
    finally:
        service.close()
    assert service.wrong == []
    assert service.verdicts >= {"in_flight", "unacknowledged", "late", "blind", "dead_lettered", "delivered"}
