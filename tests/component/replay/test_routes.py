"""Where a missing message is sent, who will see it, and which digest is right."""

import pytest

from tracker.control.errors import Invalid
from tracker.model.errors import SpecError
from tracker.model.event import Event, Stage
from tracker.model.spec import load_spec
from tracker.replay.routes import Choice, Digests, Keeper, Missing, choices, readers, target

SPEC = load_spec("""
flow: orders
checkpoints:
  - {hop: outbox, stage: produce, outbox: true}
  - {hop: eu, stage: persist, after: outbox, within: 5s, same_payload: true}
  - {hop: us, stage: replicate, after: eu, within: 20s, same_payload: true}
  - {hop: billing, stage: ack, after: eu, within: 10s}
  - {hop: inventory, stage: ack, after: eu, within: 10s}
  - {hop: reports, stage: ack, after: us, within: 10s}
  - {hop: retry, stage: persist, after: eu, within: 1h, required: false}
replay: {sources: [log: eu, peer: us, dead_letter: billing], targets: {billing: retry}}
""")
BILLING = Missing("billing", "ack", "unacknowledged")
INVENTORY = Missing("inventory", "ack", "unacknowledged")
REPORTS = Missing("reports", "ack", "unacknowledged")
EU = Missing("eu", "persist", "lost")
US = Missing("us", "replicate", "under_replicated")


@pytest.mark.parametrize(
    ("source", "missing", "to", "where"),
    [
        ("log:eu", [INVENTORY], "", "eu"),  # back to its own log, where all groups see it
        ("log:eu", [BILLING], "", "retry"),  # the flow names a place for this group alone
        ("log:eu", [BILLING, INVENTORY], "", "eu"),  # which does not help the other
        ("log:eu", [BILLING], "eu", "eu"),  # an operator chooses
        ("log:eu", [US, REPORTS], "", "eu"),
        ("log:outbox", [EU], "", "eu"),  # an outbox is no log: its row goes where it would have gone
        ("log:outbox", [INVENTORY], "", "eu"),
        ("peer:us", [EU], "", "eu"),  # to the one that lacks it
        ("peer:eu", [US, REPORTS], "", "us"),
        ("peer:eu", [REPORTS], "", "us"),  # the log that this group reads
        ("peer:eu", [INVENTORY], "", ""),  # it has it already, and says so
        ("snapshot:eu", [INVENTORY], "", "eu"),
        ("dead_letter:reports", [REPORTS], "", "us"),  # the log from which it was read
    ],
)
def test_where_a_copy_goes(source: str, missing: list[Missing], to: str, where: str) -> None:
    """By what keeps it, what is missing, and what the flow or an operator says."""
    [choice] = choices(SPEC, source)
    assert target(SPEC, choice, missing, to) == where


def test_the_flows_sources_come_in_its_order() -> None:
    """A peer's log is a log."""
    found = choices(SPEC)
    assert found == [Choice("log", "eu"), Choice("peer", "us"), Choice("dead_letter", "billing")]
    assert [one.keeper for one in found] == [Keeper("log", "eu"), Keeper("log", "us"), Keeper("dead_letter", "billing")]


@pytest.mark.parametrize("said", ["eu", "log:", "log:mars", "tape:eu", ":eu"])
def test_a_source_that_there_is_not_is_told(said: str) -> None:
    """With what may be written."""
    with pytest.raises(Invalid, match=r"log, peer, snapshot, dead_letter.*outbox, eu"):
        choices(SPEC, said)


def test_a_target_that_there_is_not_is_told() -> None:
    """An operator's, and one of the spec."""
    with pytest.raises(Invalid, match="'mars' is no hop of the flow; it has outbox, eu"):
        target(SPEC, Choice("log", "eu"), [EU], "mars")
    with pytest.raises(SpecError, match=r"billing: mars.*mars is no hop"):
        load_spec("flow: f\ncheckpoints:\n  - {hop: billing, stage: produce}\nreplay: {targets: {billing: mars}}\n")


@pytest.mark.parametrize(
    ("hop", "those"),
    [("eu", ["billing", "inventory", "reports"]), ("us", ["reports"]), ("retry", []), ("billing", [])],
)
def test_who_reads_what_is_sent(hop: str, those: list[str]) -> None:
    """Everybody behind the place, and nobody else."""
    assert sorted(readers(SPEC, hop)) == those


def seen(hop: str, stage: Stage, digest: str, offset: int | None = None, partition: str = "orders/0") -> Event:
    """An observation of m-1."""
    return Event(flow="orders", message_id="m-1", hop=hop, stage=stage, observed_at=1, digest=digest,
                 partition=partition if offset is not None else "", offset=offset)  # fmt: skip


PRODUCED, WRONG, OTHER = "a" * 16, "b" * 16, "c" * 16


@pytest.mark.parametrize("keeper", [Keeper("log", "us"), Keeper("log", "eu"), Keeper("snapshot", "us")])
def test_where_payloads_stay_the_same_the_producers_is_right(keeper: Keeper) -> None:
    """Whatever was observed of the copy itself: it may be the wrong one."""
    events = [seen("outbox", Stage.produce, PRODUCED), seen("eu", Stage.persist, OTHER, 7),
              seen("us", Stage.replicate, WRONG, 7)]  # fmt: skip
    assert Digests(SPEC).right(events, keeper, ("orders/0", 7)) == {PRODUCED}


def test_without_the_producers_the_next_one_counts() -> None:
    """The one nearest to the producer that anybody saw."""
    events = [seen("eu", Stage.persist, PRODUCED, 7), seen("us", Stage.replicate, WRONG, 9)]
    assert Digests(SPEC).right(events, Keeper("log", "us"), ("orders/0", 9)) == {PRODUCED}


LOOSE = load_spec("""
flow: orders
checkpoints:
  - {hop: checkout, stage: produce}
  - {hop: eu, stage: persist, after: checkout, within: 5s}
  - {hop: us, stage: replicate, after: eu, within: 5s, same_payload: true}
""")


def test_elsewhere_only_this_very_copy_counts() -> None:
    """Digests of other offsets, hops and stages are of other copies, or of other forms of the message."""
    events = [seen("eu", Stage.persist, PRODUCED, 7), seen("eu", Stage.persist, OTHER, 8),
              seen("eu", Stage.persist, OTHER, 7, "orders/1"), seen("checkout", Stage.produce, WRONG),
              seen("eu", Stage.ack, WRONG, 7)]  # fmt: skip
    assert Digests(LOOSE).right(events, Keeper("log", "eu"), ("orders/0", 7)) == {PRODUCED}


def test_an_archive_or_outbox_has_places_of_its_own() -> None:
    """So whatever was observed at the hop that it is of counts; two: nobody knows."""
    events = [seen("eu", Stage.persist, PRODUCED, 7), seen("us", Stage.ack, WRONG)]
    assert Digests(LOOSE).right(events, Keeper("snapshot", "eu"), ("segment-3", 12)) == {PRODUCED}
    assert Digests(LOOSE).right([seen("checkout", Stage.produce, OTHER)], Keeper("log", "checkout"), ("", 0)) == {OTHER}
    two = [*events, seen("eu", Stage.persist, OTHER, 8)]
    assert Digests(LOOSE).right(two, Keeper("snapshot", "eu"), ("segment-3", 12)) == {PRODUCED, OTHER}


def test_nothing_was_seen_of_it() -> None:
    """Then there is nothing to compare with."""
    assert Digests(SPEC).right([seen("billing", Stage.ack, WRONG)], Keeper("log", "eu"), ("orders/0", 7)) == frozenset()
