"""Small worlds against the real service on the embedded engine: what it finds is true, and what is true it finds.

The scenarios that ship are larger and are run by `tracker simulate --scenario tests/scenarios`.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.simulate.worlds import FLOW, scenario
from tracker.cli.trial import Here, here
from tracker.simulate.run import run
from tracker.simulate.scenario import Scenario
from tracker.simulate.score import Score

ORDERED = {**FLOW, "checkpoints": [*FLOW["checkpoints"][:3], {**FLOW["checkpoints"][3], "order": "partition"}]}
COARSE: dict[str, Any] = {"report_every": "8s", "pass_every": "20s"}


def at(place: str, kind: str, share: float = 0.1, **more: Any) -> dict[str, Any]:
    """A fault that hits some."""
    return {"kind": kind, "place": place, "share": share, **more}


WORLDS = {
    "messages-stop": scenario(
        at("kafka-eu", "drop"), at("kafka-us", "drop"), at("billing", "drop"),
        at("kafka-eu", "discard", reason="expired"),
        at("billing", "dead_letter", times=2), at("kafka-us", "corrupt"), at("billing", "delay", by="25s"),
        at("kafka-eu", "discard", 0.05, reason="compacted"), **COARSE,
    ),
    "nobody-looks": scenario(
        at("billing", "drop"),
        {"kind": "collector_silence", "place": "billing", "node": 1, "start": "40s", "lasts": "8s"},
        {"kind": "collector_crash", "place": "kafka-us", "start": "40s", "lasts": "30s"},
        {"kind": "collector_resend", "place": "kafka-eu"}, {"kind": "collector_lag", "place": "checkout", "by": "4s"},
        {"kind": "restart", "start": "55s"}, nodes={"billing": 2},
        **{**COARSE, "over": "50s"},
    ),
    "flags": scenario(
        at("kafka-eu", "swallow"), at("checkout", "swallow"), at("billing", "duplicate"),
        at("billing", "reorder", by="5s"),
        at("checkout", "reuse", by="60s"), at("billing", "drop"), at("billing", "replay", 0.5, start="80s"),
        flow=ORDERED, partitions=2, **COARSE,
    ),
    "still-under-way": scenario(
        at("billing", "drop"), {"kind": "clock", "place": "billing", "by": "-90s"},
        {"kind": "clock", "place": "kafka-us", "by": "70s", "drift_ppm": 300, "measured": True},
        **{**COARSE, "over": "60s", "until": "90s"},
    ),
}  # fmt: skip


def scored(world: Scenario, seed: int) -> Score:
    """One run on a new ledger."""
    with here(None) as service:
        return run(service, world, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", WORLDS)
def test_what_is_found_is_exactly_what_is_true(name: str, seed: int) -> None:
    """Verdict, flags and findings of every message, mid-stream too, none of them withdrawn; books that balance."""
    score = scored(WORLDS[name], seed)
    assert score.wrong == []
    assert score.conserved
    assert score.perfect
    assert sum(t.truth > 0 for t in score.tallies.values()) >= 3, "a scenario in which little happens proves little"


class Deaf(Here):
    """A service that answers 200 to the acknowledgements of one batch, and forgets them."""

    forgotten = 0

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; of the third batch from billing only the report arrives."""
        if path == "/v1/events" and b'"billing"' in options["content"]:
            self.forgotten += 1
            if self.forgotten == 3:
                return super().request("POST", "/v1/coverage", content=options["headers"]["Tracker-Coverage"])
        return super().request(method, path, **options)


def test_a_service_that_forgets_a_batch_is_found_out(tmp_path: Any) -> None:
    """A simulator that nothing could fail would prove nothing."""
    service = Deaf(tmp_path)
    try:
        score = run(service, scenario(**COARSE), 1)
    finally:
        service.close()
    assert not score.perfect
    assert score.tallies["unacknowledged"].precision == 0
    assert score.tallies["delivered"].recall < 1
    assert {wrong["true"][0] for wrong in score.wrong} == {"delivered"}
