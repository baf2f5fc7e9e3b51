"""What a group's committed offset shows between two polls, without a Kafka."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from collectors.kafka.moves import How, Mark, Members, Seen, Stretch, moved
from collectors.kafka.notes import NAMED, mark_of, note_of, standing
from collectors.kafka.positions import Committed

DELAY = 3_000_000
MARK = Mark(10, at=1_000, members=Members.none, tick=0, stood=10)
POLL = Seen(at=2_000, tick=1_000_000, end=1_100_000, start=0, members=Members.none, offset=20, by_reader=False)


def found(mark: Mark = MARK, **seen: Any) -> list[tuple[int, int, str]]:
    """What is new, by start, end and how."""
    return [(s.start, s.end, s.how.value) for s in moved(mark, structs.replace(POLL, **seen), DELAY)[0]]


def test_moved_while_nobody_was_there() -> None:
    """Two polls show no members, and there was no time to join and commit in between: skipped."""
    assert found() == [(10, 20, "skipped")]
    assert found(end=DELAY) == [(10, 20, "skipped")]


def test_read_where_somebody_was_there() -> None:
    """At either poll; or the commit itself names the record that was read last."""
    there = structs.replace(MARK, members=Members.some)
    assert found(there) == found(there, members=Members.some, end=DELAY + 1) == [(10, 20, "read")]
    assert found(by_reader=True) == found(there, by_reader=True, end=DELAY + 1) == [(10, 20, "read")]
    assert found(structs.replace(MARK, members=Members.unknown), members=Members.some) == [(10, 20, "read")]


def test_one_who_stayed_proves_that_no_tool_set_offsets() -> None:
    """Over polls far apart, or a restart: tools need a group without members. Where all are others, nobody can tell."""
    there = structs.replace(MARK, members=Members.some, tick=None, who=frozenset("ab"))
    assert found(there, members=Members.some, who=frozenset("bc")) == [(10, 20, "read")]
    assert found(there, members=Members.some, who=frozenset("cd")) == [(10, 20, "unknown")]
    assert found(there, members=Members.some, who=frozenset("cd"), by_reader=True) == [(10, 20, "unknown")]
    before = structs.replace(there, who=frozenset())  # as earlier versions left it
    assert found(before, members=Members.some, who=frozenset("cd")) == [(10, 20, "read")]
    assert moved(there, structs.replace(POLL, who=frozenset("cd")), DELAY)[1].who == frozenset("cd")


def test_consumers_that_are_not_shown() -> None:
    """Assigning partitions to themselves they commit as tools do: that is how such a group reads."""
    assert found(members=Members.hidden) == [(10, 20, "read")]


@pytest.mark.parametrize(
    ("mark", "seen"),
    [
        (MARK, {"end": DELAY + 1}),
        (structs.replace(MARK, tick=None), {"members": Members.some, "by_reader": True}),
        (structs.replace(MARK, members=Members.some, tick=None), {}),
        (MARK, {"members": Members.some}),
        (structs.replace(MARK, members=Members.unknown), {}),
        (MARK, {"members": Members.unknown}),
    ],
    ids=[
        "polls far apart",
        "they came since a restart",
        "they went since a restart",
        "they come too soon to commit",
        "nobody had answered",
        "nobody answers",
    ],
)
def test_who_moved_it_is_not_known(mark: Mark, seen: dict[str, Any]) -> None:
    """Neither read nor skipped."""
    assert found(mark, **seen) == [(10, 20, "unknown")]


def test_who_was_there_is_known_until_it_is_known_better() -> None:
    """A broker that does not answer for a moment takes nothing back; for longer it does."""
    _, mark = moved(MARK, structs.replace(POLL, offset=10, members=Members.unknown), DELAY)
    assert (mark.members, mark.tick) == (Members.none, MARK.tick)
    assert found(mark, tick=2_000_000, end=DELAY) == [(10, 20, "skipped")]
    assert found(mark, tick=2_000_000, end=DELAY + 1) == [(10, 20, "unknown")]


def test_what_was_passed_before_anybody_looked_counts_as_read() -> None:
    """The first look: whatever the group did before."""
    assert found(structs.replace(MARK, members=Members.first)) == [(10, 20, "read")]


def test_deleted_before_the_group_came_there() -> None:
    """Where the log begins now is behind where the group stands, whoever is in it, and whether it moved or not."""
    assert found(offset=10, start=15, members=Members.some) == [(10, 15, "expired")]
    assert found(offset=-1, start=15) == [(10, 15, "expired")]
    assert found(offset=12, start=15, members=Members.some) == [(10, 12, "unknown"), (12, 15, "expired")]
    assert found(offset=10, start=10) == found(offset=10, start=9) == []


def test_what_is_remembered() -> None:
    """Comes back as it was, but for the tick, which is of one process; what is of another topic, or unreadable, does
    not."""
    mark = Mark(10, 5, Members.none, tick=7, stood=4, unread=(3, 9))
    kept = Committed(10, note_of(mark, "id", 6))
    assert mark_of(kept, "id") == Mark(10, 6, Members.none, stood=4, unread=(3, 9))
    assert standing(kept) == ("none", "4")
    beyond = Committed(10, note_of(structs.replace(mark, stood=9), "id", 6))
    assert mark_of(beyond, "id") == Mark(10, 6, Members.none, unread=(3, 9))
    assert standing(beyond) == ("none",)
    mark = Mark(10, 5, Members.some, unread=(3, 9), who=frozenset(f"{n:02}" for n in range(20)))
    known = mark_of(Committed(10, note_of(mark, "id", 6)), "id")
    assert known == Mark(10, 6, Members.some, unread=(3, 9), who=frozenset(f"{n:02}" for n in range(NAMED)))
    for who in (frozenset("ab"), frozenset[str]()):
        mark = Mark(10, 6, Members.some, unread=(3, 10), who=who, cut=(3, 1))
        assert mark_of(Committed(10, note_of(mark, "id", 6)), "id") == mark
    assert mark_of(Committed(10, "id 6 some", epoch=2), "id") == Mark(10, 6, Members.some, known=10, epoch=2)
    assert mark_of(Committed(10, "id 6 some 3 9"), "id") == Mark(10, 6, Members.some, unread=(3, 9))
    assert mark_of(Committed(10, "id 6"), "id") == Mark(10, 6, Members.unknown)
    assert standing(Committed(10, "id 6")) == ()
    for note in ("", "id", "other 6 none", "id -1000 none"):
        assert mark_of(Committed(10, note), "id") is None


def test_what_the_client_does_then_acks_nothing() -> None:
    """It jumps to where the log begins (auto.offset.reset), and reads on from there."""
    mark = moved(MARK, structs.replace(POLL, offset=10, start=15, members=Members.some), DELAY)[1]
    assert found(mark, offset=15, start=15, members=Members.some) == []
    assert found(mark, offset=18, start=15, members=Members.some) == [(15, 18, "read")]


def test_deleted_and_passed_between_two_polls() -> None:
    """It may have been read just before; nobody can tell. What is still there was read."""
    there = structs.replace(MARK, members=Members.some)
    assert found(there, offset=20, start=15) == [(10, 15, "unknown"), (15, 20, "read")]
    assert found(there, offset=20, start=30) == [(10, 20, "unknown"), (20, 30, "expired")]


def test_set_back_is_no_news() -> None:
    """Nor is what it reads again, until it is past the old place."""
    mark = moved(MARK, structs.replace(POLL, offset=4, members=Members.some), DELAY)[1]
    assert (mark.offset, mark.stood) == (10, 4)
    assert found(mark, offset=8) == []
    assert found(mark, offset=12) == [(10, 12, "read")]


def test_set_back_to_what_was_skipped_and_read() -> None:
    """That is news, as far as it read; not what it is moved past once more."""
    _, mark = moved(MARK, POLL, DELAY)
    assert mark.unread == (10, 20)
    _, mark = moved(mark, structs.replace(POLL, offset=5), DELAY)
    mark = structs.replace(mark, members=Members.some)
    assert found(mark, offset=9) == []
    assert found(mark, offset=13) == [(10, 13, "read")]
    assert found(structs.replace(mark, members=Members.none), offset=13) == []
    assert found(mark, offset=25) == [(10, 20, "read"), (20, 25, "read")]
    assert found(structs.replace(mark, stood=None), offset=13) == []


def test_all_that_may_be_unread_is_kept_in_mind() -> None:
    """Of several stretches, the first beginning and the last end."""
    _, mark = moved(MARK, POLL, DELAY)
    _, mark = moved(mark, structs.replace(POLL, offset=25, by_reader=True), DELAY)
    assert mark.unread == (10, 20)
    _, mark = moved(mark, structs.replace(POLL, offset=40, members=Members.unknown), DELAY)
    assert mark.unread == (10, 40)


READ = Mark(100, at=1_000, members=Members.some, tick=0, stood=100, known=100, epoch=1)
"""A group that had read 100 records when the log was cut off at 11, and had grown to 30 when somebody looked."""
CUT = Seen(at=2_000, tick=1_000_000, end=1_100_000, start=0, members=Members.some, offset=100, by_reader=True,
           epoch=1, leader=3, log_end=30, cut=11)  # fmt: skip
LATER = structs.replace(CUT, epoch=3, log_end=200, cut=None)


def steps(*seen: Seen) -> list[list[tuple[int, int, str]]]:
    """What is new at each of these polls."""
    mark, said = READ, []
    for poll in seen:
        stretches, mark = moved(mark, poll, DELAY)
        said.append([(s.start, s.end, s.how.value) for s in stretches])
    return said


def test_what_it_had_read_of_a_log_that_was_cut_off() -> None:
    """It has read no longer. The log is known up to the cut, by the leader of now; said once."""
    _, mark = moved(READ, CUT, DELAY)
    assert steps(CUT, LATER) == [[(11, 100, "truncated")], []]
    assert (mark.offset, mark.unread, mark.known, mark.epoch, mark.cut) == (100, (11, 100), 11, 3, (11, 1))


@pytest.mark.parametrize("late", [structs.replace(LATER, offset=103, epoch=1), structs.replace(LATER, offset=201)])
def test_a_commit_of_what_it_had_read_before(late: Seen) -> None:
    """By its epoch, or because the log does not go so far: it moves past nothing that is there now."""
    assert steps(CUT, late, structs.replace(LATER, offset=11)) == [[(11, 100, "truncated")], [], []]


def test_a_restart_between_a_cut_and_the_groups_next_move() -> None:
    """What the group does next is the first that it does since the cut, and what it did before says nothing of the
    log."""
    _, mark = moved(READ, CUT, DELAY)
    told = mark_of(Committed(mark.offset, note_of(mark, "id", 3_000)), "id")
    assert told is not None
    stretches, mark = moved(told, LATER, DELAY)
    assert (stretches, mark.known, mark.epoch) == ([], 100, 3)
    beyond = structs.replace(LATER, offset=130)
    assert moved(mark, beyond, DELAY)[0] == [Stretch(11, 100, How.unknown), Stretch(100, 130, How.read)]
    assert moved(told, beyond, DELAY)[0] == [Stretch(11, 100, How.unknown), Stretch(100, 130, How.read)]
    old = structs.replace(LATER, epoch=1, by_reader=True)
    assert moved(told, old, DELAY)[1].epoch == 3


def test_back_to_the_cut_and_on() -> None:
    """What it then reads is told, once more."""
    back, on = structs.replace(LATER, offset=11), structs.replace(LATER, offset=130)
    assert steps(CUT, back, on)[1:] == [[], [(11, 100, "read"), (100, 130, "read")]]
    assert steps(structs.replace(CUT, offset=11, epoch=0), on) == [
        [(11, 100, "truncated")],
        [(11, 100, "read"), (100, 130, "read")],
    ]


def test_whether_it_went_back_is_not_known() -> None:
    """It stands elsewhere behind the cut: it may have read all from there on, or skipped it. From now on it reads."""
    half, beyond = structs.replace(LATER, offset=20), structs.replace(LATER, offset=130)
    assert steps(CUT, half, beyond)[1:] == [[(11, 20, "unknown")], [(20, 100, "read"), (100, 130, "read")]]
    assert steps(CUT, beyond)[1:] == [[(11, 100, "unknown"), (100, 130, "read")]]
    at_once = structs.replace(CUT, offset=130, epoch=3, log_end=200)
    assert steps(at_once) == [[(11, 100, "truncated"), (11, 100, "unknown"), (100, 130, "unknown")]]


polls = st.lists(
    st.builds(
        Seen, at=st.just(0), tick=st.just(0), end=st.sampled_from([0, DELAY + 1]), start=st.integers(0, 30),
        members=st.sampled_from(list(Members)), offset=st.integers(-1, 30), by_reader=st.booleans(),
    ),
    max_size=8,
)  # fmt: skip


@given(polls)
def test_every_offset_is_told_once(seen: list[Seen]) -> None:
    """From where it begins to where it ends without a hole, but for what had been skipped and was read again; what is
    gone was never called read at the poll that showed it gone."""
    mark, told = Mark(0, 0, Members.first), list[Stretch]()
    for poll in seen:
        before = mark
        stretches, mark = moved(mark, poll, DELAY)
        assert all(s.start < s.end for s in stretches)
        assert mark.offset == max(before.offset, poll.offset, poll.start)
        new = [s for s in stretches if s.start >= before.offset]
        assert all(s.how is How.read and s.end <= before.offset for s in stretches if s not in new)
        assert all(s.how in (How.unknown, How.expired) for s in new if s.start < poll.start)
        told += new
    ends = [0, *(s.end for s in told)]
    assert [s.start for s in told] == ends[:-1]
    assert ends[-1] == mark.offset
