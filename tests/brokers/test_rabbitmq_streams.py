"""Streams of a real RabbitMQ: read by offset, and every way in which messages were gone before we read them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from collectors.base import Raw
from collectors.emitter import Emitter
from collectors.errors import ConfigInvalid, Unavailable
from collectors.rabbitmq import cursor, stream_source
from collectors.rabbitmq.cursor import Kept
from collectors.rabbitmq.stream import RabbitStreams, streams
from tests.brokers.rabbitmq_vhost import PATIENCE, Vhost, decoded, own_vhost, read_to_now, read_until, reading, vouches
from tests.brokers.running import run
from tests.contract.http_tracker import HttpTracker
from tests.drills.scene import scene
from tests.e2e.service import environment
from tests.servers.process import Process
from tests.servers.proxy import Proxy
from tracker.model.carry import REPLAY_OF, Copy, Locator
from tracker.model.coverage import SourceRef
from tracker.model.event import Stage

pytestmark = pytest.mark.brokers

SPEC = """flow: orders
checkpoints:
  - {hop: rabbit-log, stage: persist, coverage: watermark}
  - {hop: billing, stage: ack, after: rabbit-log, within: 1s, coverage: watermark}
replay: {sources: [log: rabbit-log], mode: auto}
"""
SMALL = {"x-max-length-bytes": 60_000, "x-stream-max-segment-size-bytes": 20_000}


@pytest.fixture
def vhost(rabbitmq_server: Any) -> Iterator[Vhost]:
    """A virtual host of the test's own."""
    with own_vhost(rabbitmq_server) as vhost:
        yield vhost


def settings(vhost: Vhost, *names: str, **more: Any) -> dict[str, Any]:
    """Settings of a collector of these streams."""
    return {
        "name": "streams",
        "url": vhost.url,
        "streams": [{"stream": each, "flow": "orders", "hop": "rabbit-log"} for each in names or ("log",)],
        "look_every": 0.1,
        "hole_for": 0.0,
        **more,
    }


def stream(vhost: Vhost, name: str = "log", arguments: Mapping[str, Any] | None = None) -> None:
    """A stream."""
    vhost.channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream", **(arguments or {})})


def put(vhost: Vhost, numbers: range, name: str = "log", size: int = 0) -> list[str]:
    """Publish into a stream; the ids."""
    ids = [f"m-{number}" for number in numbers]
    for each in ids:
        vhost.publish(each, name, "", headers={"filling": "x" * size})
    return ids


def ids(collector: RabbitStreams, raws: Sequence[Raw]) -> list[str]:
    """Of the messages read."""
    return [event.message_id for event in decoded(collector, raws)]


def test_a_message_is_persisted_at_its_offset(vhost: Vhost) -> None:
    """Position in the log, and what it carries."""
    stream(vhost)
    put(vhost, range(3))
    with reading(settings(vhost, **{"from": "next"}), streams) as collector:
        put(vhost, range(3, 5))
        events = decoded(collector, read_to_now(collector))
        assert SourceRef("orders", "rabbit-log", "persist", "log") in collector.sources()
    assert [(e.message_id, e.partition, e.offset) for e in events] == [("m-3", "log", 3), ("m-4", "log", 4)]
    assert {(e.flow, e.hop, e.stage) for e in events} == {("orders", "rabbit-log", Stage.persist)}


def test_a_collector_that_comes_back_goes_on_and_vouches_for_the_time_between(vhost: Vhost) -> None:
    """What it committed is still there, so nothing can be missing behind it: no break, however long it was away."""
    stream(vhost)
    collector = streams(settings(vhost, hole_for=1e9))
    try:
        put(vhost, range(5))
        raws = read_until(collector, lambda raws: len(raws) == 5)
        collector.commit(raws[:3])
    finally:
        collector.close()
    put(vhost, range(5, 7))
    second = streams(settings(vhost, hole_for=1e9))
    try:
        raws = read_until(second, lambda raws: len(raws) >= 4 and vouches(second))
        assert ids(second, raws) == ["m-3", "m-4", "m-5", "m-6"]
    finally:
        second.close()


@contextmanager
def told(tracker: HttpTracker, described: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """A collector in its runner, telling a tracker, with the spool in `folder`."""
    stop = run({"kind": "rabbitmq-stream", **described}, tracker.url, folder)
    try:
        yield
    finally:
        stop()


def listed(tracker: HttpTracker) -> list[int]:
    """How many streams each report names, one after the other, from the first that names any."""
    counts = [sum(s["stage"] == "persist" for s in r.report["sources"]) for r in tracker.stored if r.report]
    first = next((n for n, count in enumerate(counts) if count), len(counts))
    return counts[first:]


def come(tracker: HttpTracker, ids: Sequence[str]) -> None:
    """Wait until the tracker has been told of these."""
    until(lambda: set(ids) <= set(tracker.ids))


def test_a_restart_leaves_no_hole(vhost: Vhost, tmp_path: Path) -> None:
    """No report leaves the stream out, neither the first nor one while a backlog is read; so the time between is
    vouched for. And the backlog came after what was read before, not nobody knows when."""
    stream(vhost)
    described, began = settings(vhost), time.time_ns() // 1000
    with HttpTracker() as tracker:
        with told(tracker, described, tmp_path):
            until(lambda: len(listed(tracker)) > 2)
            come(tracker, put(vhost, range(5)))
        before = len(tracker.stored)
        put(vhost, range(5, 3000))
        with told(tracker, described, tmp_path):
            come(tracker, ["m-2999"])
            reached = time.time_ns() // 1000
            until(lambda: tracker.stored[-1].reached > reached)
        after = [r.report for r in tracker.stored[before:] if r.report]
        assert {r["epoch"] for r in after} == {tracker.stored[0].report["epoch"]}
        assert min(line.get("observed_from", began) for r in tracker.stored for line in r.lines) >= began
        assert set(listed(tracker)) == {1}


def test_a_cut_connection_leaves_no_hole(vhost: Vhost, tmp_path: Path) -> None:
    """Nor do two of them, the second before it was known that the first hid nothing."""
    stream(vhost)
    server = urlsplit(vhost.url)
    spy(vhost)
    with HttpTracker() as tracker, Proxy((server.hostname or "", server.port or 5672)) as proxy:
        url = vhost.url.replace(server.netloc.rpartition("@")[2], proxy.at)
        put(vhost, range(5))
        with told(tracker, settings(vhost, url=url, hole_for=3.0), tmp_path):
            until(lambda: len(listed(tracker)) > 2 and "m-4" in tracker.ids)
            assert kept(vhost) >= 0
            for numbers in (range(5, 10), range(10, 15)):
                proxy.cut()
                come(tracker, put(vhost, numbers))
            proxy.cut()
            reached = time.time_ns() // 1000
            until(lambda: tracker.stored[-1].reached > reached)
        assert set(listed(tracker)) == {1}


def test_messages_without_a_time_that_were_there_before_anybody_looked(vhost: Vhost, tmp_path: Path) -> None:
    """Nobody knows when they were published, so nobody can say that an ack of them is missing: it may be long ago. Of
    those that come later it is known; and the stream is a source of them, by the places where they were seen."""
    stream(vhost)
    put(vhost, range(20))
    described = {"kind": "rabbitmq-stream", **settings(vhost)}
    hops = {"rabbit-log": {"kind": "rabbitmq-stream", "url": vhost.url, "stream": "log"}}
    with (
        scene(tmp_path, SPEC, [described], hops) as made,
        closing(Emitter(made.service.url, "", collector="billing-1", spool=tmp_path / "billing")) as billing,
    ):
        billing.vouch([SourceRef("orders", "billing", "ack", "billing-1")])
        made.until(lambda: made._vouched() == 1, "the consumer")
        made.watch(sources=2)
        put(vhost, range(100, 103))
        made.until(lambda: made.books()["verdicts"].get("unacknowledged") == 3, "findings")
        made.decided(23)
        assert {one["message_id"] for one in made.findings()} == {"m-100", "m-101", "m-102"}
        assert made.books()["verdicts"] == {"blind": 20, "unacknowledged": 3}
        asked = made.service.http.post("/v1/replays", json={"flow": "orders", "reason": "billing was away"}).json()
        made.until(lambda: made.service.get(f"/v1/replays/{asked['id']}")["messages"].get("sent") == 3, "the sending")
    with closing(stream_source.source({"url": vhost.url})) as copies:
        again = copies.fetch([Locator(f"m-{100 + n}", "rabbit-log", "log", 23 + n) for n in range(3)])
    assert [copy.headers[REPLAY_OF] for copy in again if isinstance(copy, Copy)] == [
        b"rabbit-log/log/20", b"rabbit-log/log/21", b"rabbit-log/log/22",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_that_is_no_stream_is_refused_and_not_touched(vhost: Vhost, kind: str) -> None:
    """Its messages are its consumers': the error names it, its type and what to do."""
    vhost.channel.queue_declare("log", durable=True, arguments={"x-queue-type": kind})
    put(vhost, range(3))
    collector = streams(settings(vhost))
    for _ in range(2):
        with pytest.raises(ConfigInvalid, match=rf"'log', which is a {kind} queue and no stream.*Take it out"):
            collector.read(10, 0.1)
    collector.close()
    got = [vhost.channel.basic_get("log") for _ in range(3)]
    assert [method and (method.redelivered, method.message_count) for method, *_ in got] == [
        (False, 2), (False, 1), (False, 0),
    ]  # fmt: skip
    assert {(properties.headers or {}).get("x-delivery-count", 0) for _, properties, _ in got if properties} == {0}


def test_what_retention_took_unread_is_a_hole(vhost: Vhost) -> None:
    """Reading goes on with what is left; the stream is not vouched for until the break was shown."""
    stream(vhost, arguments=SMALL)
    with reading(settings(vhost), streams) as collector:
        put(vhost, range(5), size=1000)
        collector.commit(read_until(collector, lambda raws: len(raws) == 5))
    put(vhost, range(5, 400), size=1000)
    second = streams(settings(vhost, hole_for=1e9))
    try:
        raws = read_until(second, lambda raws: bool(raws) and ids(second, raws[-1:]) == ["m-399"])
        assert ids(second, raws)[0] != "m-5"
        read_until(second, lambda _: second.lag().ms < 5_000)
        assert not vouches(second)
    finally:
        second.close()


def test_a_stream_made_anew_is_read_from_its_beginning(vhost: Vhost) -> None:
    """Deleted under the collector, or while it was away; with fewer messages than were read, or with others."""
    stream(vhost)
    with reading(settings(vhost), streams) as collector:
        put(vhost, range(5))
        collector.commit(read_until(collector, lambda raws: len(raws) == 5))
        vhost.channel.queue_delete("log")
        with pytest.raises(Unavailable):
            read_until(collector, lambda _: False)
        assert not vouches(collector)
        stream(vhost)
        put(vhost, range(10, 12))
        raws: list[Any] = []
        while len(raws) < 2:
            with suppress(Unavailable):  # until the broker has let go of the old one
                raws += read_until(collector, lambda raws: bool(raws))
        assert ids(collector, raws) == ["m-10", "m-11"]
        collector.commit(raws)
        vhost.channel.queue_delete("log")
    stream(vhost)
    put(vhost, range(20, 28))
    with_others = streams(settings(vhost))
    try:
        assert ids(with_others, read_until(with_others, lambda raws: len(raws) >= 8)) == [
            f"m-{n}" for n in range(20, 28)
        ]
    finally:
        with_others.close()


def test_a_second_instance_stands_by_and_takes_over(vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of one name would keep each other's places."""
    stream(vhost)
    with reading(settings(vhost), streams) as first:
        second = streams(settings(vhost))
        try:
            with monkeypatch.context() as hasty:
                hasty.setattr(cursor, "PATIENCE", 0.5)
                with pytest.raises(Unavailable, match="another collector reads"):
                    second.read(1, 0.1)
            put(vhost, range(3))
            first.commit(read_until(first, lambda raws: len(raws) == 3))
            first.close()
            put(vhost, range(3, 4))
            assert ids(second, read_until(second, lambda raws: len(raws) == 1)) == ["m-3"]
        finally:
            second.close()


def test_several_streams_and_one_that_is_not_there(vhost: Vhost) -> None:
    """Each is a source; a missing one is named."""
    stream(vhost, "a")
    collector = streams(settings(vhost, "a", "b"))
    try:
        with pytest.raises(Unavailable, match="'b'"):
            collector.read(1, 0.1)
        stream(vhost, "b")
        put(vhost, range(2), "a")
        put(vhost, range(2, 4), "b")
        raws = read_until(collector, lambda raws: len(raws) == 4 and len(collector.sources() or ()) == 3)
        assert sorted(ids(collector, raws)) == [f"m-{n}" for n in range(4)]
        collector.commit(raws)
    finally:
        collector.close()


def until(met: Callable[[], Any]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 2 * PATIENCE
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def spy(vhost: Vhost) -> None:
    """A queue that gets what the cursor's gets."""
    vhost.channel.exchange_declare("tracker.cursor.streams", "fanout", durable=True)
    vhost.channel.queue_declare("spy")
    vhost.channel.queue_bind("spy", "tracker.cursor.streams")


def kept(vhost: Vhost, found: int = -1) -> int:
    """The offset that was kept last for the stream `log`, as the `spy` saw it; `found` when nothing came since."""
    until = time.monotonic() + PATIENCE
    while found < 0 or vhost.message_count("spy"):
        assert time.monotonic() < until, "nothing is kept"
        body = vhost.channel.basic_get("spy", auto_ack=True)[2]
        places = (msgspec.json.decode(body, type=Kept).places if body else None) or {}
        found = max(found, places["log"].offset if "log" in places else -1)
    return found


def test_a_sigkill_loses_no_place_and_no_message(vhost: Vhost, tmp_path: Path) -> None:
    """The next process, on another host's disk, goes on behind what the tracker has stored, and brings the rest."""
    stream(vhost)
    spy(vhost)
    with HttpTracker() as tracker:

        def process(host: str) -> Process:
            config = {k: v for k, v in settings(vhost).items() if k != "name"}
            about = {"name": "streams", "kind": "rabbitmq-stream", **config}
            path = tmp_path / f"{host}.yaml"
            path.write_text(
                yaml.safe_dump({"tracker": {"url": tracker.url}, "spool": str(tmp_path / host), "collectors": [about]})
            )
            command = [str(Path(sys.executable).with_name("collectors")), "run", str(path)]
            return Process(f"collectors-{host}", command, tmp_path, environment())

        def seen(numbers: range) -> None:
            wanted, until = {f"m-{number}" for number in numbers}, time.monotonic() + 2 * PATIENCE
            while not wanted <= set(tracker.ids):
                assert time.monotonic() < until, f"{len(wanted - set(tracker.ids))} never came"
                time.sleep(0.02)

        first, second = process("one"), process("two")
        try:
            first.start(lambda: None)
            put(vhost, range(100))
            seen(range(50))
            place = kept(vhost)
            first.kill()
            place = kept(vhost, place)
            tracker.requests.clear()
            put(vhost, range(100, 110))
            second.start(lambda: None)
            seen(range(place + 1, 110))
            assert min(int(name[2:]) for name in tracker.ids) == place + 1
        finally:
            first.kill()
            second.kill()
