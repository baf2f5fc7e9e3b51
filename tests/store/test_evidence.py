"""What is vouched for is read once per pass, and is never older than the last one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world.installation import Installation
from tracker.api.evidence import Evidence, Vouched
from tracker.model.coverage import SourceRef
from tracker.model.event import Range, Stage
from tracker.model.units import SECOND

SPEC = "{flow: vouched, checkpoints: [{hop: log, stage: persist}, {hop: billing, stage: ack, after: log, within: 5s}]}"
LOG = SourceRef("vouched", "log", "persist", "s")


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A new installation."""
    installation = Installation(tmp_path_factory.mktemp("evidence"))
    yield installation
    installation.close()


def end(vouched: Vouched) -> int:
    """How far the log is vouched for, µs."""
    return vouched.coverage.of("log", "persist")[0].intervals[-1][1]


def test_read_once_per_pass(world: Installation) -> None:
    """A pass that moved coverage on is seen at once; between two passes the store is not asked again."""
    spec = world.put(SPEC)
    evidence = Evidence(world.store, world.control)
    assert evidence.of(spec).coverage.sources == {}
    for _ in range(2):
        world.now += 10 * SECOND
        world.vouch([LOG])
    assert evidence.of(spec).coverage.sources == {}, "no pass has folded the reports"
    world.run_pass()
    first = evidence.of(spec)
    assert first is evidence.of(spec), "nothing can have changed"
    world.now += 10 * SECOND
    world.vouch([LOG])
    world.run_pass()
    assert end(evidence.of(spec)) == end(first) + 10 * SECOND


def test_ranges_are_asked_for_once_there_are_some(world: Installation) -> None:
    """From the pass on that folded the first."""
    spec = world.put(SPEC)
    evidence = Evidence(world.store, world.control)
    assert not evidence.of(spec).ranged
    world.move([Range(flow=spec.flow, hop="billing", stage=Stage.ack, log="log", partition="0", offset=0, offset_to=9,
                      observed_from=world.now, observed_at=world.now,
                      evidence="range")])  # fmt: skip
    world.run_pass()
    assert evidence.of(spec).ranged


def test_a_new_version_of_the_spec_is_seen_at_once(world: Installation) -> None:
    """It may say that other places are assumed to be covered."""
    spec = world.put(SPEC)
    evidence = Evidence(world.store, world.control)
    assert not evidence.of(spec).coverage.vouches("billing", Stage.ack)
    newer = world.put(SPEC.replace("within: 5s", "within: 5s, coverage: assumed"))
    assert evidence.of(newer).coverage.assumed == frozenset({("billing", "ack")})
    assert evidence.of(spec).coverage.assumed == frozenset()
