"""The tail against a real Kafka whose logs lose their ends: what it takes back, and where it goes on.

A broker comes back with the files of a partition as they were before. So under a new leader epoch the log ends earlier,
and other records get the offsets, as when a follower is elected that was not in sync (three brokers that really do that
are in `tests/drills/unclean_election.py`).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Consumer, TopicPartition

from collectors.base import Raw
from collectors.errors import Unavailable, Undecodable
from collectors.kafka.groups import KafkaGroups
from collectors.kafka.tail import KafkaTail
from tests.brokers.kafka_topic import Topic, ids, own_topic, read_to_now, wait_for
from tests.brokers.test_kafka_groups import following, move
from tests.brokers.test_kafka_tail import tailing
from tests.servers.kafka import Kafka
from tracker.model.event import LEADER_EPOCH, Event, Range, Stage, delivery_of

pytestmark = [pytest.mark.brokers, pytest.mark.slow]


@contextmanager
def cut_off(server: Kafka, *topics: Topic) -> Iterator[None]:
    """What is produced within is confirmed, and gone afterwards."""
    server.stop()
    data, kept = server.folder / "data", server.folder / "kept"
    for topic in topics:
        shutil.copytree(data / f"{topic.name}-0", kept / f"{topic.name}-0")
    server.start()
    yield
    server.kill()
    for topic in topics:
        shutil.rmtree(data / f"{topic.name}-0")
        shutil.copytree(kept / f"{topic.name}-0", data / f"{topic.name}-0")
    shutil.rmtree(kept)
    server.start()


def patiently(collector: KafkaTail | KafkaGroups, enough: Callable[[list[Raw]], bool]) -> list[Raw]:
    """Read and decode, as the runner does, until it is enough; a broker that is away is waited for."""
    raws: list[Raw] = []

    def done() -> bool:
        try:
            raws.extend(collector.read(100, 0.1))
        except Unavailable:
            return False
        return enough(raws)

    wait_for(done, "what the tail has to say", patience=60)
    return raws


def committed(topic: Topic) -> tuple[int, int | None]:
    """Where the tail of the topic stands in Kafka: offset and leader epoch."""
    consumer = Consumer(topic.client(group_id=f"tracker.test.{topic.name}"))
    [found] = consumer.committed([TopicPartition(topic.name, 0)], timeout=10)
    consumer.close()
    return found.offset, found.leader_epoch


def said(collector: KafkaTail, raws: list[Raw]) -> list[Event | str]:
    """What is made of them: events, and what cannot be named."""
    found: list[Event | str] = []
    for raw in raws:
        try:
            found += collector.decode(raw)
        except Undecodable as error:
            found.append(str(error))
    return found


def test_a_log_that_loses_its_end(kafka_factory: Callable[..., Kafka]) -> None:
    """What was read and is gone is taken back, by name as far as it is remembered. What has the offsets since is read,
    also by a tail that was away meanwhile and whose position the new log has long passed."""
    server = kafka_factory()
    with (
        own_topic(server.bootstrap) as topic,
        own_topic(server.bootstrap) as short,
        own_topic(server.bootstrap) as away,
    ):
        with tailing(topic) as tail, tailing(short, remember=2) as forgetful:
            for one in (topic, short, away):
                one.put(["m-0", "m-1"])
            with cut_off(server, topic, short, away):
                for one in (topic, short, away):
                    one.put(["m-2", "m-3", "m-4", "m-5"])
                before = patiently(tail, lambda raws: len(raws) == 6)
                persists = said(tail, before)
                said(forgetful, patiently(forgetful, lambda raws: len(raws) == 6))
                tail.commit(before[:3])
                with tailing(away) as late:
                    late.commit(patiently(late, lambda raws: len(raws) == 6))
            _taken_back_by_name(tail, persists)
            assert wait_for(lambda: tail.read(1, 0.1) or committed(topic)[0] == 2)
            tail.commit(before)  # the tracker's yes comes late
            assert committed(topic)[0] == 2
            for one in (topic, short, away):
                one.put(["m-2", *(f"n-{number}" for number in range(6))])
            _read_anew(tail, persists, topic)
            _not_remembered(forgetful, "offsets 2 to 3", ["m-4", "m-5"])
        names = ["m-2", *(f"n-{number}" for number in range(6))]
        with tailing(away) as late:
            _not_remembered(late, "offsets 2 to 5", [])
            assert ids(late, read_to_now(late)) == names
        with tailing(away) as late:
            last = read_to_now(late)
            assert ids(late, last) == names
            late.commit(last)
        with tailing(away) as late:
            assert read_to_now(late) == []
    server.kill()


def _taken_back_by_name(tail: KafkaTail, persists: list[Event | str]) -> None:
    """Each that is gone, in its delivery, and no other; the log is vouched for again."""
    drops = said(tail, patiently(tail, lambda raws: len(raws) == 4))
    assert [(e.message_id, e.stage, e.reason, delivery_of(e)) for e in drops if isinstance(e, Event)] == [
        (e.message_id, Stage.drop, "truncated", delivery_of(e)) for e in persists[2:] if isinstance(e, Event)
    ]
    began = time.monotonic()
    assert patiently(tail, lambda _: tail.lag().ms < (time.monotonic() - began) * 1000) == []
    assert len(tail.sources()) == 1


def _read_anew(tail: KafkaTail, persists: list[Event | str], topic: Topic) -> None:
    """The same message at the same offset is another delivery; the position moves on from there."""
    raws = patiently(tail, lambda raws: len(raws) == 7)
    again = [event for event in said(tail, raws) if isinstance(event, Event)]
    assert [(e.message_id, e.offset) for e in again[:2]] == [("m-2", 2), ("n-0", 3)]
    assert delivery_of(again[0]) not in {delivery_of(e) for e in persists if isinstance(e, Event)}
    assert [LEADER_EPOCH in e.attributes for e in (persists[0], again[0]) if isinstance(e, Event)] == [False, True]
    tail.commit(raws)
    assert committed(topic)[0] == 9


def _not_remembered(tail: KafkaTail, offsets: str, named: list[str]) -> None:
    """The offsets are told, and the rest by name."""
    found = said(tail, patiently(tail, lambda raws: len(raws) > len(named)))
    assert isinstance(found[0], str)
    assert offsets in found[0]
    assert [e.message_id for e in found[1:] if isinstance(e, Event) and e.stage == Stage.drop] == named


def test_what_a_group_had_moved_past_in_it(kafka_factory: Callable[..., Kafka]) -> None:
    """That is no longer in the log: it is taken back, once, also by a follower that was away. Where the group goes on
    is looked at closely: by its first commit nobody can tell what it has read since."""
    server = kafka_factory()
    with own_topic(server.bootstrap) as topic, own_topic(server.bootstrap) as away:
        app = Consumer(topic.client(group_id=f"app-{topic.name}", enable_auto_commit=False))
        absent = Consumer(away.client(group_id=f"app-{away.name}", enable_auto_commit=False))
        with following(topic) as follower:
            for one in (topic, away):
                one.put(["m-0", "m-1"])
            with cut_off(server, topic, away):
                for one, group in ((topic, app), (away, absent)):
                    one.put(["m-2", "m-3", "m-4", "m-5"])
                    move(group, one, 6)
                assert _told(follower, 1) == [("ack", "", 0, 6)]
                with following(away) as late:
                    assert _told(late, 1) == [("ack", "", 0, 6)]
            assert _told(follower, 1) == [("drop", "truncated", 2, 6)]
            for one in (topic, away):
                one.put([f"n-{number}" for number in range(7)])
            assert len(follower.sources()) == 1
            move(app, topic, 9)
            wait_for(lambda: follower.read(100, 0.1) or not follower.sources(), "a hole in what is vouched for")
            assert _told(follower, 1) == [("ack", "", 6, 9)]
            move(app, topic, 2)
            _looked(follower)
            move(app, topic, 9)
            assert _told(follower, 1) == [("ack", "", 2, 6)]
        with following(away) as late:
            assert _told(late, 1) == [("drop", "truncated", 2, 6)]
        with following(away) as late:
            assert _looked(late) == []
        for each in (app, absent):
            each.close()
    server.kill()


def _looked(follower: KafkaGroups) -> list[Raw]:
    """What is said by a poll that begins now."""
    began = time.monotonic()
    return patiently(follower, lambda _: follower.lag().ms < (time.monotonic() - began) * 1000)


def _told(follower: KafkaGroups, least: int) -> list[tuple[str, str, int, int]]:
    """Stage, reason and offsets of ranges, at least so many; they are kept as told."""
    found: list[Range] = []

    def enough(raws: list[Raw]) -> bool:
        found[:] = [one for raw in raws for one in follower.decode(raw)]
        return len(found) >= least

    follower.commit(patiently(follower, enough))
    return [(one.stage.value, one.reason, one.offset, one.offset_to) for one in found]
