"""What an archive vouches for, over restarts, and what it does not."""

from __future__ import annotations

from collectors.archive.holdings import Gap, held, incomplete, missing
from collectors.archive.manifest import Book, Books, Hole, Manifest, Run, unpacked
from collectors.archive.names import Segment
from tests.unit.collectors.archiving import LOG
from tracker.model.coverage import SourceRef

OTHER = SourceRef("orders", "log", "persist", "t/1")


def books(*before):
    """Books that went on with these manifests."""
    made = Books("one", ["orders"])
    made.load({manifest.flow: manifest for manifest in before}, {})
    return made


def runs(of):
    """Source, from, until of every run."""
    ((_, packed),) = of.told()
    return [(r.source, r.since, r.until) for r in unpacked("x", packed).hops.get("log", Book()).runs]


def after_restart(of):
    """The same in a process that read the manifest."""
    return books(*(unpacked("x", packed) for _, packed in of.told()))


def test_a_run_grows_while_its_source_is_watched():
    """From the first moment that was shown to be complete; a step back changes nothing."""
    made = books()
    for reached in (None, 100, 150, 120):
        made.vouch([LOG], reached)
    assert runs(made) == [("t/0", 100, 150)]


def test_a_source_left_out_begins_anew():
    """What happened between is not vouched for. Others go on."""
    made = books()
    made.vouch([LOG, OTHER], 100)
    made.vouch([OTHER], 200)
    made.vouch([LOG, OTHER], 300)
    made.vouch([LOG, OTHER], 400)
    assert sorted(runs(made)) == [("t/0", 100, 100), ("t/0", 300, 400), ("t/1", 100, 400)]


def test_a_run_goes_on_over_a_restart():
    """What was not kept was not committed, so it came again."""
    made = books()
    made.vouch([LOG], 100)
    again = after_restart(made)
    again.vouch([LOG], 500)
    assert runs(again) == [("t/0", 100, 500)]


def test_a_source_left_out_at_the_start_does_not_go_on():
    """Also when that was said before the manifest could be read."""
    made = books()
    made.vouch([LOG], 100)
    ((flow, packed),) = made.told()
    again = Books("one", ["orders"])
    again.vouch([], 200)
    again.vouch([LOG], 300)
    again.load({flow: unpacked("x", packed)}, {})
    again.vouch([LOG], 400)
    assert runs(again) == [("t/0", 100, 100), ("t/0", 400, 400)]


def test_only_what_is_kept_is_vouched_for():
    """Stages at which a hop takes a message, of flows that are archived."""
    made = books()
    others = [SourceRef("orders", "billing", "ack", "g"), SourceRef("payments", "log", "persist", "p")]
    made.vouch([LOG, *others], 100)
    ((_, packed),) = made.told()
    assert list(unpacked("x", packed).hops) == ["log"]


def test_numbers_go_on_from_the_newest_there_is():
    """Whichever of manifest and files knows the greater one."""
    made = Books("one", ["orders"])
    made.load(
        {"orders": Manifest("one", "orders", {"log": Book(4, [], [])})}, {("orders", "log"): 6, ("orders", "us"): 2}
    )
    assert (made.next("orders", "log"), made.next("orders", "us"), made.next("orders", "new")) == (7, 3, 1)


def segment(sequence, first, last, rows=1):
    """One of the log's."""
    return Segment(first, last, "orders", "log", sequence, rows, "one")


def test_a_missing_number_is_a_missing_segment():
    """In the middle, and at the end, where only the manifest knows of it. Not at the beginning: that was deleted."""
    there = [segment(3, 10, 20), segment(6, 50, 60)]
    gaps = missing(there, Book(8, [Run("persist", "t/0", 0, 90)], []))
    assert gaps == [Gap(20, 50, "segments missing: 4, 5"), Gap(60, 90, "segments missing: 7, 8")]


def test_what_was_given_up_is_told_as_that():
    """Not a second time as a missing segment."""
    book = Book(5, [], [Hole(20, 40, 7, 4, "the store was away")])
    manifest = Manifest("one", "orders", {"log": book})
    (found,) = held([segment(3, 10, 20), segment(5, 50, 60)], {("orders", "one"): manifest}, {})
    assert found.gaps == [Gap(20, 40, "7 records given up: the store was away")]
    assert (found.segments, found.records, found.first, found.last) == (2, 2, 10, 60)


def told(until, *spans, first=100, gaps=()):
    """The gaps of a hop whose sources were watched over these spans."""
    watched = [Run("persist", source, since, to) for source, since, to in spans]
    (found,) = held(
        [segment(1, first, first)],
        {("orders", "one"): Manifest("one", "orders", {"log": Book(1, watched, list(gaps))})},
        {},
    )
    return [(gap.source, gap.since, gap.until) for gap in incomplete([found], until)]


def test_what_was_watched_throughout_is_complete():
    """Up to the moment that is asked for, and no further."""
    assert told(200, ("t/0", 100, 250)) == []
    assert told(300, ("t/0", 100, 250)) == [("t/0", 250, 300)]
    assert told(300, ("t/0", 100, 200), ("t/0", 220, 300)) == [("t/0", 200, 220)]


def test_each_source_has_to_be_watched():
    """Of several collectors of one source one suffices: spans of the same source are joined."""
    assert told(200, ("t/0", 100, 200), ("t/1", 150, 200)) == [("t/1", 100, 150)]
    assert told(200, ("t/0", 100, 160), ("t/0", 150, 200)) == []


def test_what_nobody_vouches_for_is_not_complete():
    """Records alone show nothing; a gap after the moment does not count."""
    assert told(200) == [("", 100, 200)]
    assert told(90) == []
    assert told(200, ("t/0", 100, 200), gaps=[Hole(300, 310, 1, 0, "x")]) == []
    assert told(305, ("t/0", 100, 400), gaps=[Hole(300, 310, 1, 0, "x")]) == [("", 300, 310)]
