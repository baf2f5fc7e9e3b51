"""MQTT: what a session keeps, what a full queue drops, what is not vouched for, on a real Mosquitto."""

from __future__ import annotations

import gc
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collectors.base import NOTHING_YET_MS, Raw, Unavailable, Undecodable
from collectors.carried import digest_of
from collectors.errors import ConfigInvalid
from collectors.mqtt import Count, Subscriber, subscribe
from collectors.mqtt_publisher import publisher
from tests.servers.mosquitto import LASTING, Mosquitto
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tracker.cli.hops import build
from tracker.model.carry import REPLAY_ATTEMPT, REPLAY_ID, Copy, Locator
from tracker.model.event import Event, natural_key

pytestmark = pytest.mark.brokers
PATIENCE = 30.0
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Watched:
    """One run of a collector, as its runner has it. `named`: what `sources` answered, each change once."""

    def __init__(self, collector: Subscriber) -> None:
        self.collector = collector
        self.events: list[Event] = []
        self.named: list[int | None] = []

    @property
    def ids(self) -> list[str]:
        """Of what came."""
        return [event.message_id for event in self.events]

    def turn(self, commits: bool = True) -> None:
        """One round; a broker that is away is asked again."""
        with suppress(Unavailable):
            raws = self.collector.read(100, 0.05)
            self.events += [event for raw in raws for event in self.collector.decode(raw)]
            if commits:
                self.collector.commit(raws)
        answer = self.collector.sources()
        found = None if answer is None else len(answer)
        if not self.named or self.named[-1] != found:
            self.named.append(found)

    def until(self, met: Callable[[], Any], commits: bool = True) -> None:
        """Rounds until it holds."""
        end = time.monotonic() + PATIENCE
        while not met():
            assert time.monotonic() < end, (self.named, self.ids)
            self.turn(commits)

    def vouches(self) -> None:
        """Rounds until it vouches for this moment."""
        since = time.monotonic()
        self.until(lambda: self.collector.lag().ms < (time.monotonic() - since) * 1000 and self.named[-1:] == [1])


class Place:
    """A topic, sessions and a publisher on a broker."""

    def __init__(self, server: Mosquitto, folder: Path) -> None:
        self.server, self.folder, self.topic = server, folder, f"orders/{folder.name}"
        self.count = folder / "count.json"
        self.url = server.url

    def watched(self, remembers: bool = True, **more: Any) -> Watched:
        """A collector, started."""
        config = {
            "url": self.url,
            "topic": self.topic,
            "flow": "orders",
            "hop": "mosquitto",
            "client_id": self.topic,
            "at_least_once": True,
            **more,
        }
        return Watched(subscribe("orders", config, self.folder if remembers else None))

    def publish(self, *ids: str, qos: int = 1, retain: bool = False, **headers: str) -> None:
        """Messages, and the broker's word."""
        client = self.server.client()
        client.loop_start()
        for each in ids:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = [("x-message-id", each), *((k.replace("_", "-"), v) for k, v in headers.items())]
            client.publish(self.topic, each, qos, retain, properties).wait_for_publish(20)
        client.disconnect()
        client.loop_stop()


@pytest.fixture
def place(mosquitto_server: Mosquitto, tmp_path: Path) -> Place:
    """On the shared broker."""
    return Place(mosquitto_server, tmp_path)


@pytest.fixture(scope="module")
def narrow_server(mosquitto_factory: Callable[..., Mosquitto]) -> Mosquitto:
    """A broker that keeps ten messages for whoever is away."""
    return mosquitto_factory({"max_queued_messages": "10"})


@pytest.fixture
def narrow(narrow_server: Mosquitto, tmp_path: Path) -> Place:
    """On that one."""
    return Place(narrow_server, tmp_path)


@pytest.fixture
def own(mosquitto_factory: Callable[..., Mosquitto], tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """On a broker with settings of its own."""
    made: list[Place] = []

    def make(more: str = "", **settings: str) -> Place:
        made.append(Place(mosquitto_factory(settings, more), tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.server.stop()


def test_what_a_message_says(place: Place) -> None:
    """Id, trace, origin, topic and payload; one without an id cannot be named."""
    first = place.watched()
    first.vouches()
    place.publish("a", traceparent=TRACE, x_origin_at="1800000000000000", x_correlation_id="c-1")
    first.until(lambda: first.events)
    [event] = first.events
    assert (event.message_id, event.flow, event.hop, event.stage) == ("a", "orders", "mosquitto", "persist")
    assert (event.trace_id, event.span_id, event.correlation_id) == (*TRACE.split("-")[1:3], "c-1")
    assert (event.origin_at, event.partition, event.size) == (1_800_000_000_000_000, place.topic, 1)
    assert (event.digest, event.observed_from) == (digest_of(b"a"), None)
    place.publish("")
    with pytest.raises(Undecodable, match="x-message-id"):
        first.until(lambda: len(first.events) > 1)
    first.collector.close()


def test_a_restart_leaves_no_hole(place: Place) -> None:
    """What was published while the collector was away comes, with the span in which it was, and coverage goes on."""
    first = place.watched()
    first.until(place.count.exists)
    first.collector.close()
    place.publish("a", "b")
    kept = msgspec.json.decode(place.count.read_bytes(), type=Count)
    place.count.write_bytes(msgspec.json.encode(msgspec.structs.replace(kept, reached=kept.reached - 3_600_000_000)))
    second = place.watched()
    second.vouches()
    assert second.ids == ["a", "b"]
    assert second.named == [None, 1]
    assert all(3590e6 < e.observed_at - (e.observed_from or 0) < 3660e6 for e in second.events)
    second.collector.close()


def test_a_cut_connection_leaves_no_hole(place: Place) -> None:
    """Where nothing was dropped meanwhile, and nobody publishes at QoS 0."""
    with Proxy(("127.0.0.1", place.server.port)) as proxy:
        place.url = place.url.replace(str(place.server.port), str(proxy.port))
        first = place.watched(remembers=False)
        first.vouches()
        first.until(lambda: first.collector._last)
        first.named.clear()
        proxy.gone()
        place.publish("a")
        first.turn()
        proxy.back()
        first.until(lambda: first.ids)
        first.vouches()
        assert 0 not in first.named
        first.collector.close()


def test_without_memory_a_restart_is_a_hole(place: Place) -> None:
    """What the broker had dropped before is not known then."""
    for _ in range(2):
        each = place.watched(remembers=False)
        each.vouches()
        assert 0 in each.named
        each.collector.close()


def test_what_a_full_queue_dropped_is_a_hole(narrow: Place) -> None:
    """The broker says nothing to us, only its counter does."""
    place = narrow
    first = place.watched()
    first.until(place.count.exists)
    first.collector.close()
    place.publish(*(str(n) for n in range(30)))
    second = place.watched()
    second.vouches()
    assert len(second.ids) == 10
    assert 0 in second.named
    second.collector.close()


def test_what_is_dropped_for_others_is_no_hole(narrow: Place) -> None:
    """As long as the collector keeps up, nothing of its own can have been dropped."""
    place = narrow
    other = place.watched(remembers=False, client_id="other")
    other.vouches()
    other.collector.close()
    first = place.watched()
    first.until(place.count.exists)
    first.named.clear()
    before = first.collector._dropped or 0
    place.publish(*(str(n) for n in range(30)))
    first.until(lambda: (first.collector._dropped or 0) > before)
    first.vouches()
    assert len(first.ids) == 30
    assert first.named == [1]
    first.collector.close()


def test_a_full_window(narrow: Place) -> None:
    """The broker waits for acknowledgements: nothing newer is vouched for meanwhile. What its queue has no room for is
    a hole."""
    place = narrow
    first = place.watched(window=5)
    first.until(place.count.exists)
    first.named.clear()
    place.publish(*(str(n) for n in range(12)))
    taken: list[Raw] = []
    end = time.monotonic() + PATIENCE
    while len(taken) < 5 and time.monotonic() < end:
        taken += first.collector.read(100, 0.1)
    assert first.collector.read(100, 0.5) == []
    assert first.collector.lag().ms >= 400
    first.collector.commit(taken)
    first.until(lambda: len(first.ids) == 7)
    first.vouches()
    assert first.named == [1]
    place.publish(*(str(n) for n in range(30)))
    first.vouches()
    assert 0 in first.named
    first.collector.close()


def test_a_broker_that_is_killed_and_comes_back(own: Callable[..., Place]) -> None:
    """Also where it keeps sessions on disk it may have lost what it kept last: a hole, and everything from then on."""
    place = own(**LASTING)
    first = place.watched()
    first.vouches()
    place.publish("a")
    first.until(lambda: first.ids)
    first.until(place.count.exists)
    first.named.clear()
    place.server.kill()
    first.turn()
    place.server.start()
    first.vouches()
    assert 0 in first.named
    place.publish("b")
    first.until(lambda: "b" in first.ids)
    first.collector.close()


def test_at_qos_0_each_connection_is_a_hole(place: Place) -> None:
    """The broker keeps nothing of QoS 0 for who is away. That producers use QoS 1 has to be said, and is not believed
    where one of QoS 0 comes."""
    first = place.watched(at_least_once=False)
    first.until(lambda: first.collector._subscribed)
    place.publish("a", qos=0)
    first.until(lambda: first.ids)
    first.until(place.count.exists)  # so that it is not for want of it that the next one has a hole
    first.collector.close()
    second = place.watched(at_least_once=False)
    second.vouches()
    assert 0 in second.named
    second.collector.close()
    third = place.watched()
    third.vouches()
    third.named.clear()
    place.publish("b", qos=0)
    third.until(lambda: 0 in third.named)
    assert third.ids == ["b"]
    third.vouches()
    third.collector.close()


def test_a_login_that_may_not_read_the_counters(own: Callable[..., Place], tmp_path: Path) -> None:
    """Nobody knows what was dropped: each new connection is a hole, and then it vouches all the same."""
    rights = tmp_path / "rights"
    rights.write_text("user watcher\ntopic readwrite orders/#\n")
    place = own(acl_file=str(rights))
    first = place.watched()
    first.vouches()
    first.collector.close()
    assert not place.count.exists()
    second = place.watched()
    second.vouches()
    assert 0 in second.named
    second.collector.close()


def test_given_again_or_published_again(place: Place) -> None:
    """What the broker gives again is the same event; the same id published twice is two. What was retained before the
    session began is nothing that happened."""
    place.publish("retained", retain=True)
    first = place.watched()
    first.vouches()
    assert first.ids == []
    place.publish("a", "a")
    first.until(lambda: len(first.ids) == 2, commits=False)
    first.collector.close()
    second = place.watched()
    second.until(lambda: len(second.ids) == 2)
    assert [natural_key(e) for e in second.events] == [natural_key(e) for e in first.events]
    assert len({natural_key(e) for e in first.events}) == 2
    second.collector.close()


def test_another_filter_in_the_same_session(place: Place) -> None:
    """What the session still gets by the filter that it had before is acknowledged, and not taken for this flow's."""
    before = place.watched()
    before.vouches()
    before.collector.close()
    after = place.watched(topic="elsewhere")
    place.publish("a")
    after.vouches()
    assert after.ids == []
    after.collector.close()


def test_nobody_there(place: Place, tmp_path: Path) -> None:
    """It is said, without the password, and nothing is vouched for."""
    place.url = "mqtt://watcher:its-password@127.0.0.1:9"
    first = place.watched().collector
    with pytest.raises(Unavailable, match=r"mqtt://127\.0\.0\.1:9: ") as raised:
        first.read(1, 0.1)
    assert "its-password" not in str(raised.value)
    assert (first.sources(), first.lag().ms) == (None, NOTHING_YET_MS)
    first.close()


# Where a handshake fails, paho leaves the socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(own: Callable[..., Place], tmp_path: Path) -> None:
    """Whom the given authority does not vouch for is not talked to."""
    made, port = tmp_path / "made.pem", free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "made.key", "-out", made],
        check=True, capture_output=True,
    )  # fmt: skip
    place = own(f"listener {port} 127.0.0.1\ncertfile {made}\nkeyfile {tmp_path / 'made.key'}\n")
    place.url = f"mqtts://watcher:its-password@127.0.0.1:{port}"
    trusting = place.watched(ca=str(made))
    trusting.vouches()
    trusting.collector.close()
    with pytest.raises(Unavailable, match="certificate"):
        place.watched().collector.read(1, 0.1)
    gc.collect()
    with pytest.raises(ConfigInvalid, match="ca: "):
        place.watched(ca=str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": "$share/a/orders"},
        {"topic": "a/#/b"},
        {"topic": "a+"},
        {"url": "http://127.0.0.1"},
        {"window": 0},
        {"to": 1},
    ],
)
def test_a_wrong_setting(place: Place, wrong: dict[str, Any]) -> None:
    """The key is named."""
    with pytest.raises(ConfigInvalid, match=f"collector orders: {next(iter(wrong))}"):
        place.watched(**wrong)


def test_a_copy_is_sent_as_it_was(place: Place) -> None:
    """From what an archive keeps of it: to the topic that it had, with its properties and those of the replay. The
    collector sees it."""
    first = place.watched()
    first.vouches()
    place.publish("a", colour="blue")
    raws: list[Raw] = []
    end = time.monotonic() + PATIENCE
    while not raws and time.monotonic() < end:
        raws = first.collector.read(10, 0.1)
    [raw], [event] = raws, first.collector.decode(raws[0])
    kept = first.collector.content(raw, event)
    assert kept.value is not None
    headers = {name: value or b"" for name, value in kept.headers.items()} | {REPLAY_ID: b"r-1", REPLAY_ATTEMPT: b"1"}
    copy = Copy(Locator("a", "mosquitto", "", 0), None, kept.value, headers, event.digest, kept.native)
    nowhere = msgspec.structs.replace(copy, native=b"\x00\x3c other")
    binary = msgspec.structs.replace(copy, headers={"x": b"\xff"})
    ends = build({"mosquitto": {"kind": "mqtt", "url": place.url}})
    try:
        [back] = ends.publishers.values()
        sent = back.publish([copy, nowhere, binary, copy])
    finally:
        ends.close()
    assert [each.error.partition(":")[0] for each in sent] == ["", "not sent", "not sent", ""]
    first.until(lambda: len(first.ids) == 2)
    assert [(e.replay_id, e.attempt, e.digest, e.partition) for e in first.events] == [
        ("r-1", 1, event.digest, place.topic)
    ] * 2
    first.collector.close()


def test_a_publisher_that_is_not_let_in(own: Callable[..., Place], tmp_path: Path) -> None:
    """`refused` is what the broker refused, `not sent` what it never got: no wrong password is shown."""
    rights = tmp_path / "rights"
    rights.write_text("user watcher\ntopic readwrite orders/#\n")
    place = own(acl_file=str(rights))
    copy = Copy(Locator("a", "mosquitto", "", 0), None, b"a", {}, digest_of(b"a"))
    for url, topic, error in (
        (place.url, "elsewhere", "refused: MQTT mqtt://127.0.0.1"),
        (place.url.replace("its-password", "wrong-one"), "orders/a", "not sent: MQTT mqtt://127.0.0.1"),
        ("mqtt://watcher:its-password@127.0.0.1:9", "orders/a", "not sent: mqtt://127.0.0.1:9"),
    ):
        [sent] = publisher({"url": url, "topic": topic}).publish([copy])
        assert sent.error.startswith(error), sent.error
        assert not re.search("its-password|wrong-one", sent.error)


def test_a_publisher_takes_no_longer_than_its_timeout(place: Place) -> None:
    """The broker stops answering: what is on its way is in doubt, and nothing else is tried."""
    copies = [Copy(Locator(f"m-{n}", "m", "", 0), None, b"{}", {}, digest_of(b"{}")) for n in range(200)]
    with Proxy(("127.0.0.1", place.server.port)) as proxy:
        url = place.url.replace(f":{place.server.port}", f":{proxy.port}")
        back = publisher({"url": url, "topic": place.topic, "timeout": 1})
        assert {one.error for one in back.publish(copies)} == {""}
        proxy.delay = 0.05
        threading.Timer(0.6, proxy.hold).start()
        began = time.monotonic()
        sent = back.publish(copies)
        assert time.monotonic() - began < 4
        said = ["untried" if one.untried else one.error.partition(":")[0] for one in sent]
        assert said == sorted(said, key=["", "in doubt", "untried"].index)
        assert {"", "in doubt", "untried"} >= set(said) >= {"in doubt", "untried"}
        proxy.go_on()
