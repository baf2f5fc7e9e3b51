"""NATS: what consumers say, what streams forget, what is copied, on a real server."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamSource

from collectors.base import Undecodable
from collectors.errors import ConfigInvalid, Unavailable
from collectors.nats import journal
from collectors.nats.feed import Feed
from collectors.nats.tail import NatsTail, tail
from tests.brokers.nats_stream import Stream, own_stream
from tracker.model.event import Event, Range, Stage

pytestmark = pytest.mark.brokers
PATIENCE = 20.0


@pytest.fixture
def stream(nats_server: str) -> Iterator[Stream]:
    """A stream of the test's own."""
    with own_stream(nats_server) as stream:
        yield stream


def settings(stream: Stream, *consumers: str, **more: Any) -> dict[str, Any]:
    """Of a collector that follows these consumers."""
    return {
        "url": stream.url,
        "streams": [{"stream": stream.name, "flow": "orders", "hop": "nats-eu"}],
        "consumers": [{"stream": stream.name, "consumer": each, "hop": each} for each in consumers],
        "look_every": 0.1,
        **more,
    }


def collector(stream: Stream, *consumers: str, **more: Any) -> NatsTail:
    """It."""
    return tail(f"{stream.name}.one", settings(stream, *consumers, **more))


def seen(collector: NatsTail, met: Callable[[list[Any]], Any], commits: bool = True) -> list[Any]:
    """What it observes, until `met` of that; what cannot be decoded is left out."""
    found: list[Any] = []
    until = time.monotonic() + PATIENCE
    while not met(found):
        assert time.monotonic() < until, found
        raws = collector.read(100, 0.1)
        for raw in raws:
            try:
                found += collector.decode(raw)
            except Undecodable as error:
                found.append(str(error))
        collector.sources()
        if commits:
            collector.commit(raws)
    return found


def during(collector: NatsTail, seconds: float) -> list[Any]:
    """What it observes in that time."""
    until = time.monotonic() + seconds
    return seen(collector, lambda found: time.monotonic() > until)


def vouched(collector: NatsTail) -> list[str]:
    """Stages of what it vouches for, once it is at the end."""
    until = time.monotonic() + PATIENCE
    while collector.lag().ms > 1000:
        assert time.monotonic() < until
        collector.read(100, 0.1)
    return [source.stage for source in collector.sources() or ()]


def told(found: list[Any]) -> set[tuple[str, str, str]]:
    """Id, stage and reason of events that are not of the stream itself."""
    return {(e.message_id, e.stage.value, e.reason) for e in found if isinstance(e, Event) and e.hop != "nats-eu"}


def test_what_a_consumer_says_is_seen_message_by_message(stream: Stream) -> None:
    """Acks, naks and terminations by its clients, and what the server gives up; also what was said while the collector
    was away. Who waits for the server's word gets it."""
    consumer = stream.consumer("billing", max_deliver=2, ack_wait=1)
    first = collector(stream, "billing")
    assert vouched(first) == ["ack", "persist"]
    first.close()
    stream.put([f"m-{n}" for n in range(5)])
    one, two, three, four, _ = stream.take(consumer, 5)
    stream.do(one.ack())
    stream.do(two.ack_sync(timeout=5))
    stream.do(three.nak())
    stream.do(four.term())
    (again,) = stream.take(consumer, 1)
    assert again.metadata.sequence.stream == 3
    stream.do(again.ack())
    second = collector(stream, "billing")
    want = {
        ("m-0", "ack", ""), ("m-1", "ack", ""), ("m-2", "nack", ""), ("m-2", "ack", ""),
        ("m-3", "dead_letter", "terminated"), ("m-4", "dead_letter", "max_deliveries"),
    }  # fmt: skip
    for _ in range(2):
        stream.do(_fetch(consumer))
    found = seen(second, lambda found: told(found) >= want and len(told(found)) == len(want))
    assert len([e for e in found if e.stage is Stage.persist]) == 5
    acks = [e for e in found if e.stage is Stage.ack]
    assert {(e.hop, e.group, e.partition, e.offset, e.digest) for e in acks if e.message_id == "m-0"} == {
        ("billing", "billing", stream.name, 1, next(e.digest for e in found if e.message_id == "m-0"))
    }
    assert len({e.delivery for e in found if e.message_id == "m-2"}) == 3, "two deliveries, and the stream's own"
    second.close()


async def _fetch(consumer: Any) -> None:
    """Ask for what there is: the server gives up a message when its next delivery would be due."""
    try:
        await consumer.fetch(1, timeout=1.5)
    except TimeoutError:
        return


def test_acks_of_what_the_stream_no_longer_holds(stream: Stream) -> None:
    """Read before, they are remembered, also by the next process; else nobody knows of what they were, and that is a
    hole."""
    consumer = stream.consumer()
    first = collector(stream, "billing")
    assert vouched(first) == ["ack", "persist"]
    stream.put(["m-0", "m-1", "m-2"])
    messages = stream.take(consumer, 3)
    seen(first, lambda found: len(found) == 3)
    stream.do(stream.js.purge_stream(stream.name))
    stream.do(messages[0].ack())
    found = seen(first, lambda found: found)
    assert told(found) == {("m-0", "ack", "")}
    first.close()
    second = collector(stream, "billing")
    stream.do(messages[1].ack())
    assert told(seen(second, lambda found: found)) == {("m-1", "ack", "")}
    assert vouched(second) == ["ack", "persist"]
    second.close()
    second = collector(stream, "billing", remember=0)
    stream.do(messages[2].ack())
    found = seen(second, lambda found: found)
    assert "which is gone" in found[0]
    assert [source.stage for source in second.sources() or ()] == ["persist"], "its hole is shown"
    until = time.monotonic() + PATIENCE
    while vouched(second) != ["ack", "persist"]:
        assert time.monotonic() < until
        second.read(10, 0.2)
    second.close()


def test_an_ack_from_before_the_stream_was_made_again(stream: Stream) -> None:
    """Its number is another message's now: it is not that one's ack."""
    consumer = stream.consumer()
    first = collector(stream, "billing")
    vouched(first)
    stream.put(["m-0"])
    (message,) = stream.take(consumer, 1)
    stream.do(message.ack_sync())
    stream.delete()
    stream.create()
    stream.put(["m-1"])
    found = seen(first, lambda found: len(found) == 2)
    assert [e.message_id for e in found if isinstance(e, Event)] == ["m-1"]
    assert "which is gone" in found[1]
    first.close()


def test_what_cannot_be_looked_up_comes_again(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ack whose message cannot be asked for at the moment is not passed over."""
    consumer = stream.consumer()
    first = collector(stream, "billing", remember=0)
    vouched(first)
    stream.put(["m-0"])
    seen(first, lambda found: len(found) == 1)
    (message,) = stream.take(consumer, 1)
    stream.do(message.ack_sync())
    get = Feed.get

    def cut(feed: Feed, *about: Any) -> Any:
        if feed.stream == stream.name:
            raise Unavailable("cut")
        return get(feed, *about)

    monkeypatch.setattr(Feed, "get", cut)
    with pytest.raises(Unavailable, match="cut"):
        seen(first, lambda found: found)
    monkeypatch.setattr(Feed, "get", get)
    assert told(seen(first, lambda found: found)) == {("m-0", "ack", "")}
    first.close()


def test_what_a_full_stream_forgets_unread_is_dropped(stream: Stream) -> None:
    """Told as a range, of what its consumer was not given; also what happened while the collector was away."""
    stream.update(max_msgs=10)
    consumer = stream.consumer()
    first = collector(stream, "billing")
    vouched(first)
    stream.put([f"m-{n}" for n in range(4)])
    for message in stream.take(consumer, 2):
        stream.do(message.ack())
    seen(first, lambda found: len(found) == 6)
    stream.put([f"m-{n}" for n in range(4, 13)])
    (dropped,) = (each for each in seen(first, lambda found: _ranges(found)) if isinstance(each, Range))
    assert (dropped.offset, dropped.offset_to, dropped.reason, dropped.hop) == (3, 4, "discarded", "nats-eu")
    assert dropped.observed_from <= dropped.observed_at
    first.read(10, 0.3)
    first.close()
    stream.put(["m-13"])
    second = collector(stream, "billing")
    found = seen(second, lambda found: _ranges(found))
    assert [(r.offset, r.offset_to) for r in _ranges(found)] == [(4, 5)]
    second.close()


def _ranges(found: list[Any]) -> list[Range]:
    return [each for each in found if isinstance(each, Range)]


def test_what_a_consumer_was_given_past_the_discarded(stream: Stream) -> None:
    """A consumer that goes on behind what was discarded was not given that: known when the time for an ack is over, and
    not before, for what it was given may be acked yet."""
    stream.update(max_msgs=3)
    consumer = stream.consumer(ack_wait=2)
    first = collector(stream, "billing")
    vouched(first)
    stream.put(["m-0", "m-1", "m-2"])
    (held,) = stream.take(consumer, 1)
    seen(first, lambda found: len(found) == 3)
    stream.put(["m-3", "m-4", "m-5"])
    (later,) = stream.take(consumer, 1)
    assert later.metadata.sequence.stream == 4
    found = seen(first, lambda found: len(found) == 3)
    for _ in range(3):
        found += [each for raw in first.read(10, 0.2) for each in first.decode(raw)]
    assert _ranges(found) == []
    for message in (held, later):
        stream.do(message.ack())
    found = seen(first, lambda found: _ranges(found))
    assert told(found) == {("m-0", "ack", ""), ("m-3", "ack", "")}
    assert [(r.offset, r.offset_to) for r in _ranges(found)] == [(2, 4)]
    first.close()


def test_what_was_read_before_a_kill_is_named(stream: Stream) -> None:
    """What a process that is no more had read and not seen acked is told as dropped by the next one, also what the
    consumer had been given; not what was acked meanwhile."""
    stream.update(max_msgs=4)
    consumer = stream.consumer(ack_wait=1)
    first = collector(stream, "billing")
    vouched(first)
    stream.put(["m-0", "m-1", "m-2", "m-3"])
    messages = stream.take(consumer, 2)
    seen(first, lambda found: len(found) == 4)
    stream.do(messages[0].ack_sync())
    stream.put(["m-4", "m-5", "m-6", "m-7"])
    second = collector(stream, "billing")  # the first one is not closed, and says nothing more
    found = seen(second, lambda found: sum(each.offset_to - each.offset for each in _ranges(found)) >= 3)
    assert told(found) == {("m-0", "ack", "")}
    assert [n for each in _ranges(found) for n in range(each.offset, each.offset_to)] in ([3, 4, 2], [2, 3, 4])
    for each in (first, second):
        each.close()
    third = collector(stream, "billing")
    assert vouched(third) == ["ack", "persist"]
    assert during(third, 1.3) == [], "each once"
    third.close()


def test_what_is_not_committed_comes_again_with_its_id(nats_server: str) -> None:
    """An ack of a work queue's message, read and not committed by a process that is no more."""
    with own_stream(nats_server, retention="workqueue") as stream:
        consumer = stream.consumer()
        first = collector(stream, "billing")
        vouched(first)
        stream.put(["m-0"])
        seen(first, lambda found: len(found) == 1)
        for message in stream.take(consumer, 1):
            stream.do(message.ack_sync())
        for life in (first, collector(stream, "billing")):
            assert told(seen(life, lambda found: found, commits=False)) == {("m-0", "ack", "")}
            life.close()


def test_what_is_kept_is_written_anew(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    """When most of it counts no more, in parts; what is open stays, and the stream of it does not grow. One that was
    removed is made again."""
    monkeypatch.setattr(journal, "SLACK", 300)
    monkeypatch.setattr(journal, "CHUNK", 300)
    consumer = stream.consumer()
    first = collector(stream, "billing")
    vouched(first)
    stream.put([f"old-{n}" for n in range(5)])
    held = stream.take(consumer, 5)
    seen(first, lambda found: len(found) == 5)
    own = f"TRACKED_{stream.name}=one"
    for number in range(12):
        stream.put([f"m-{number}"])
        seen(first, lambda found: found)
        stream.do(stream.take(consumer, 1)[0].ack_sync())
        seen(first, lambda found: found)
        if number == 6:
            stream.do(stream.js.delete_stream(own))
            first.close()  # it makes what is its own when it connects
    kept = (first._kept or {})[own]
    assert kept.seq - kept.first < 12
    first.close()
    stream.do(stream.js.purge_stream(stream.name))
    second = collector(stream, "billing")
    for message in held:
        stream.do(message.ack())
    found = seen(second, lambda found: len(found) == 5)
    assert {name for name, *_ in told(found)} == {f"old-{n}" for n in range(5)}
    second.close()


def test_who_works_on_it_has_not_lost_it(stream: Stream) -> None:
    """A client that asks for more time may still ack what the stream forgot."""
    stream.update(max_msgs=1)
    consumer = stream.consumer(ack_wait=1)
    first = collector(stream, "billing")
    vouched(first)
    stream.put(["m-0"])
    (message,) = stream.take(consumer, 1)
    seen(first, lambda found: found)
    stream.put(["m-1"])
    found = seen(first, lambda found: found)
    for _ in range(4):
        stream.do(message.in_progress())
        found += during(first, 0.4)
    assert _ranges(found) == []
    stream.do(message.ack())
    assert told(seen(first, lambda found: told(found))) == {("m-0", "ack", "")}
    first.close()


def test_what_another_consumer_has_is_not_dropped(stream: Stream) -> None:
    """A drop takes the message from all: so it is told when nobody may ack it any more."""
    stream.update(max_msgs=1)
    stream.consumer("billing")
    audit = stream.consumer("audit", ack_wait=20)
    first = collector(stream, "billing", "audit")
    vouched(first)
    stream.put(["m-0"])
    (message,) = stream.take(audit, 1)
    seen(first, lambda found: len(found) == 1)
    stream.put(["m-1"])
    found = [*seen(first, lambda found: found), *during(first, 0.5)]
    assert _ranges(found) == []
    stream.do(message.ack())
    found = seen(first, lambda found: _ranges(found))
    assert told(found) == {("m-0", "ack", "")}
    assert [(r.offset, r.offset_to) for r in _ranges(found)] == [(1, 2)]
    first.close()


@pytest.mark.parametrize("how", ["purge", "delete"])
def test_what_was_acked_unheard_is_not_lost(stream: Stream, how: str) -> None:
    """Acks that our own stream forgot, or that went with it, may have been of anything: nothing that was there is
    called dropped then. There is a hole, and what comes later is followed as before."""
    stream.update(max_msgs=2)
    consumer = stream.consumer(ack_wait=1)
    first = collector(stream, "billing")
    vouched(first)
    stream.put(["m-0", "m-1"])
    messages = stream.take(consumer, 2)
    seen(first, lambda found: len(found) == 2)
    for message in messages:
        stream.do(message.ack_sync())
    own = f"TRACKER_{stream.name}_billing"
    stream.do(stream.js.purge_stream(own) if how == "purge" else stream.js.delete_stream(own))
    stream.put(["m-2", "m-3"])
    if how == "delete":
        with pytest.raises(Unavailable, match="is made again"):
            during(first, PATIENCE)
    found = [*seen(first, lambda found: len(found) == 2), *during(first, 1.3)]
    assert _ranges(found) == []
    first.close()
    second = collector(stream, "billing")
    vouched(second)
    stream.put(["m-4", "m-5"])
    seen(second, lambda found: len(found) == 2)
    stream.put(["m-6", "m-7"])
    found = seen(second, lambda found: _ranges(found))
    assert min(each.offset for each in _ranges(found)) == 3 + 2, "of what came after that"
    second.close()


def test_what_grew_old_and_what_was_purged(stream: Stream) -> None:
    """The limits tell why: too old, or somebody purged it. A purge moves the server's own idea of what a consumer was
    given, so it is only seen where there is none of that."""
    stream.update(max_age=1)
    stream.consumer()
    first = collector(stream, "billing")
    vouched(first)
    stream.put(["m-0"])
    (dropped,) = _ranges(seen(first, lambda found: _ranges(found)))
    assert dropped.reason == "expired"
    first.close()


def test_what_was_gone_before_it_was_read_is_a_hole(stream: Stream) -> None:
    """The stream is not vouched for until that was told, and reading is past it."""
    stream.update(max_msgs=5)
    stream.put(["m-0"])
    first = collector(stream)
    seen(first, lambda found: len(found) == 1)
    stream.put([f"m-{n}" for n in range(1, 20)])
    found: list[Any] = []
    until = time.monotonic() + PATIENCE
    while not found:
        assert time.monotonic() < until
        found = first.read(100, 0.0)
    assert first.sources() == []
    first.read(100, 0.3)
    assert vouched(first) == ["persist"]
    first.close()


def test_a_work_queue_is_read_without_disturbing_it(nats_server: str) -> None:
    """No consumer is made in it; what was acked before it was read is a hole."""
    with own_stream(nats_server, retention="workqueue") as stream:
        consumer = stream.consumer()
        first = collector(stream, "billing")
        vouched(first)
        stream.put(["m-0"])
        before = stream.content()
        seen(first, lambda found: len(found) == 1)
        assert stream.content() == before
        for message in stream.take(consumer, 1):
            stream.do(message.ack())
        assert told(seen(first, lambda found: found)) == {("m-0", "ack", "")}
        first.close()
        stream.put(["m-1"])
        for message in stream.take(consumer, 1):
            stream.do(message.ack_sync())
        second = collector(stream, "billing")
        found = seen(second, lambda found: found)
        assert "no id" in found[0]
        assert second.sources() == []
        second.close()


@pytest.mark.parametrize("how", ["mirror", "sources"])
def test_a_copy_is_a_replicate(stream: Stream, nats_server: str, how: str) -> None:
    """Of a mirror and of a stream with sources, by the same id and digest, dated by when it can have come."""
    source = StreamSource(name=stream.name)
    about: Any = {"mirror": source} if how == "mirror" else {"sources": [source]}
    with own_stream(nats_server, subjects=[], **about) as copy:
        route = {"stream": copy.name, "flow": "orders", "hop": "nats-us", "stage": "replicate"}
        mirror = collector(copy, streams=[route])
        assert vouched(mirror) == ["replicate"]
        before = time.time_ns() // 1000
        stream.put(["m-0"])
        (event,) = seen(mirror, lambda found: found)
        assert (event.message_id, event.hop, event.stage) == ("m-0", "nats-us", Stage.replicate)
        assert before - 300_000 < event.observed_from < event.observed_at <= time.time_ns() // 1000
        origin = collector(stream)
        (original,) = seen(origin, lambda found: found)
        assert original.digest == event.digest
        for each in (mirror, origin):
            each.close()


def test_subjects_tell_flows_apart_and_the_servers_id_will_do(stream: Stream) -> None:
    """The first route that fits counts; what fits none is nobody's business. Without `x-message-id` the id is
    `Nats-Msg-Id`; without either it is set aside."""
    routes = [
        {"stream": stream.name, "subject": f"{stream.name}.*.new", "flow": "orders", "hop": "nats-eu"},
        {"stream": stream.name, "subject": f"{stream.name}.bills.>", "flow": "bills", "hop": "nats-eu"},
    ]
    for subject, one in (("eu.new", "m-0"), ("bills.a.b", "m-1"), ("else", "m-2"), ("us.new", "")):
        headers = {"Nats-Msg-Id": one} if one else None
        stream.do(stream.js.publish(f"{stream.name}.{subject}", b"{}", headers=headers))
    first = collector(stream, streams=routes)
    found = seen(first, lambda found: len(found) == 3)
    assert [(e.flow, e.message_id) for e in found[:2]] == [("orders", "m-0"), ("bills", "m-1")]
    assert "neither" in found[2]
    first.close()


def test_a_consumer_whose_acks_stand_for_others_is_refused(stream: Stream) -> None:
    """What it acks cannot be told message by message."""
    stream.do(stream.js.add_consumer(stream.name, ConsumerConfig(durable_name="billing", ack_policy=AckPolicy.ALL)))
    first = collector(stream, "billing")
    with pytest.raises(ConfigInvalid, match="ack_policy all"):
        first.read(10, 1.0)
    first.close()


def test_no_stream_is_said(stream: Stream) -> None:
    """By its name."""
    about = [{"stream": "nobodys", "flow": "orders", "hop": "nats-eu"}]
    first = collector(stream, streams=about)
    with pytest.raises(Unavailable, match="none of the streams exists: nobodys"):
        first.read(10, 1.0)
    first.close()


def test_a_server_that_comes_back_with_less_and_is_written_on(nats_factory: Any) -> None:
    """Its numbers stand for other messages then, which are read; what was read and is gone is not taken for these."""
    server = nats_factory()
    with own_stream(server.url, max_msgs=4) as stream:
        stream.consumer(ack_wait=1)
        first = collector(stream, "billing")
        vouched(first)
        stream.put(["m-0"])
        seen(first, lambda found: len(found) == 1)
        first.close()
        server.stop()
        shutil.copytree(server.folder / "data", server.folder / "before")
        server.start()
        stream.connect()
        stream.put(["m-1", "m-2"])
        seen(first, lambda found: len(found) == 2)
        server.kill()
        with pytest.raises(Unavailable):
            seen(first, lambda found: False)
        shutil.rmtree(server.folder / "data")
        (server.folder / "before").rename(server.folder / "data")
        server.start()
        stream.connect()
        stream.put(["n-1", "n-2", "n-3"])
        found = seen(first, lambda found: len(found) >= 3)
        assert {e.message_id for e in found} >= {"n-1", "n-2", "n-3"}
        assert [e for e in found if not isinstance(e, Event)] == []
        for message in stream.take(stream.consumer(ack_wait=1), 4):
            stream.do(message.ack())
        found = seen(first, lambda found: len(told(found)) == 4)
        assert told(found) == {(name, "ack", "") for name in ("m-0", "n-1", "n-2", "n-3")}
        first.close()


def test_a_server_that_is_killed_and_comes_back(nats_factory: Any) -> None:
    """Said; then it goes on where it was, and what was acked meanwhile is known."""
    server = nats_factory()
    with own_stream(server.url) as stream:
        stream.consumer()
        first = collector(stream, "billing")
        vouched(first)
        stream.put(["m-0"])
        seen(first, lambda found: len(found) == 1)
        server.kill()
        with pytest.raises(Unavailable):
            seen(first, lambda found: False)
        server.start()
        stream.connect()
        stream.put(["m-1"])
        for message in stream.take(stream.consumer(), 2):
            stream.do(message.ack())
        found = seen(first, lambda found: len(found) == 3)
        assert told(found) == {("m-0", "ack", ""), ("m-1", "ack", "")}
        assert vouched(first) == ["ack", "persist"]
        first.close()
