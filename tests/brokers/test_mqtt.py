"""MQTT: what a session keeps, what a full queue drops, what is not vouched for, on a real Mosquitto."""

from __future__ import annotations

import gc
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from collectors.base import NOTHING_YET_MS, Raw, Unavailable, Undecodable
from collectors.carried import digest_of
from collectors.errors import ConfigInvalid
from collectors.mqtt import Subscriber, subscribe
from collectors.mqtt_publisher import publisher
from collectors.pushed import Count, Known
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
            assert time.monotonic() < end, repr(
                (self.named, self.ids, vars(self.collector._pushed), vars(self.collector._inbox), vars(self.collector))
            )
            self.turn(commits)

    def vouches(self) -> None:
        """Rounds until it vouches for this moment."""
        since = time.monotonic()
        self.until(lambda: self.collector.lag().ms < (time.monotonic() - since) * 1000 and self.named[-1:] == [1])


def taken(watched: Watched, count: int) -> list[Raw]:
    """So many records, not committed."""
    raws: list[Raw] = []
    end = time.monotonic() + PATIENCE
    while len(raws) < count:
        assert time.monotonic() < end, raws
        raws += watched.collector.read(count - len(raws), 0.1)
    return raws


class Place:
    """A topic, sessions and a publisher on a broker."""

    def __init__(self, server: Mosquitto, folder: Path) -> None:
        self.server, self.folder, self.topic = server, folder, f"orders/{folder.name}"
        self.kept = folder / "session.json"
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

    def started(self, counted: bool = False, **more: Any) -> Watched:
        """One that has been given a message, and vouches; and, where it is `counted`, knows what the broker dropped."""
        made = self.watched(**more)
        made.until(lambda: made.collector._subscribed)
        self.publish("first")
        made.until(lambda: "first" in made.ids)
        made.vouches()
        if counted:
            made.until(lambda: self.known.count)
        made.events.clear()
        made.named.clear()
        return made

    @property
    def known(self) -> Known:
        """What the next process will know."""
        return msgspec.json.decode(self.kept.read_bytes(), type=Known)

    @property
    def count(self) -> Count:
        """What it will know of what the broker dropped."""
        assert self.known.count
        return self.known.count

    def publish(self, *ids: str, qos: int = 1, retain: bool = False, expires: int = 0, **headers: str) -> None:
        """Messages, and the broker's word."""
        client = self.server.client()
        client.loop_start()
        for each in ids:
            properties = Properties(PacketTypes.PUBLISH)
            properties.UserProperty = [("x-message-id", each), *((k.replace("_", "-"), v) for k, v in headers.items())]
            if expires:
                properties.MessageExpiryInterval = expires
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
    first = place.started()
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
    first = place.started(counted=True)
    first.collector.close()
    place.publish("a", "b")
    known = place.known
    earlier = msgspec.structs.replace(place.count, reached=place.count.reached - 3_600_000_000)
    place.kept.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, count=earlier)))
    second = place.watched()
    second.vouches()
    assert second.ids == ["a", "b"]
    assert second.named == [None, 1]
    assert all(3590e6 < e.observed_at - (e.observed_from or 0) < 3660e6 for e in second.events)
    second.collector.close()


@pytest.mark.long
def test_a_count_that_is_told_no_more(own: Callable[..., Place]) -> None:
    """Mosquitto 2.0 forgets its counts a minute after they have changed. So nothing changed for so long, which is
    enough for a short absence."""
    place = own()
    first = place.started(counted=True)
    assert place.count.dropped == 0
    end = time.monotonic() + 66
    while time.monotonic() < end:
        first.turn()
    assert first.named == [1]
    first.collector.close()
    for since, hole in ((0, False), (60_000_000, True)):
        known = place.known
        earlier = msgspec.structs.replace(place.count, dropped=None, reached=place.count.reached - since)
        place.kept.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, count=earlier)))
        second = place.watched()
        place.publish("a")
        second.vouches()
        assert (second.ids, 0 in second.named) == (["a"], hole)
        second.collector.close()


def test_a_cut_connection_leaves_no_hole(place: Place) -> None:
    """Where nothing was dropped meanwhile, and nobody publishes at QoS 0."""
    with Proxy(("127.0.0.1", place.server.port)) as proxy:
        place.url = place.url.replace(str(place.server.port), str(proxy.port))
        first = place.started(remembers=False)
        first.until(lambda: first.collector._pushed.known.count)
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
    place.started(remembers=False).collector.close()
    again = place.watched(remembers=False)
    place.publish("a")
    again.vouches()
    assert 0 in again.named
    assert again.ids == ["a"]
    again.collector.close()


def test_what_a_full_queue_dropped_is_a_hole(narrow: Place) -> None:
    """The broker says nothing to us, only its counter does."""
    place = narrow
    first = place.started(counted=True)
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
    place.started(remembers=False, client_id="other").collector.close()
    first = place.started(counted=True)
    before = place.count.dropped or 0
    place.publish(*(str(n) for n in range(30)))
    first.until(lambda: (place.count.dropped or 0) > before)
    first.vouches()
    assert len(first.ids) == 30
    assert first.named == [1]
    first.collector.close()


def test_a_full_window(narrow: Place) -> None:
    """The broker waits for acknowledgements: nothing newer is vouched for meanwhile. What its queue has no room for is
    a hole."""
    place = narrow
    first = place.started(counted=True, window=5)
    place.publish(*(str(n) for n in range(12)))
    raws = taken(first, 5)
    assert first.collector.read(100, 0.5) == []
    assert first.collector.lag().ms >= 400
    first.collector.commit(raws)
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
    first = place.started(counted=True)
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
    any more once one of QoS 0 came, by the next process neither."""
    first = place.started(counted=True, at_least_once=False)
    first.collector.close()
    second = place.watched(at_least_once=False)
    second.until(lambda: 0 in second.named)
    assert not place.known.fleeting
    second.collector.close()
    third = place.started()
    place.publish("b", qos=0)
    third.until(lambda: 0 in third.named)
    assert third.ids == ["b"]
    assert place.known.fleeting
    third.collector.close()


def test_what_may_expire_in_the_queue(place: Place) -> None:
    """The broker forgets it and counts nothing: once such a message came, each absence is a hole."""
    first = place.started(counted=True)
    place.publish("a", expires=600)
    first.until(lambda: 0 in first.named)
    assert first.ids == ["a"]
    first.vouches()
    first.until(lambda: place.known.count)
    first.collector.close()
    second = place.watched()
    second.vouches()
    assert 0 in second.named
    second.collector.close()


def test_a_broker_that_grants_less(own: Callable[..., Place]) -> None:
    """Subscribed at QoS 0 it keeps nothing for who is away: that is known before anything came."""
    port = free_port()
    place = own(f"listener {port} 127.0.0.1\nmax_qos 0\n")
    place.url = place.url.replace(str(place.server.port), str(port))
    first = place.watched()
    first.until(lambda: first.collector._subscribed)
    assert place.known.fleeting
    first.collector.close()


@pytest.mark.parametrize(
    ("may", "vouches"),
    [
        ("topic write orders/#\ntopic read $SYS/#", None),
        ("topic readwrite orders/#", None),
        ("topic readwrite orders/#\ntopic read $SYS/broker/version", True),
    ],
)
def test_rights_that_are_missing(own: Callable[..., Place], tmp_path: Path, may: str, vouches: bool | None) -> None:
    """Mosquitto lets anybody subscribe, and gives nothing to who may not read: nothing is vouched for until something
    came. Nor where nobody says that it is a Mosquitto. Where it says only this, nobody knows what was dropped: each new
    connection is a hole."""
    rights = tmp_path / "rights"
    rights.write_text(f"user watcher\n{may}\n")
    place = own(acl_file=str(rights))
    for _ in range(2):
        each = place.watched()
        each.until(partial(getattr, each.collector, "_subscribed"))
        place.publish("a")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            each.turn()
        assert (each.ids == []) == ("topic write" in may)
        assert [one for one in each.named if one != 0][-1] == vouches
        assert 0 in each.named
        each.collector.close()


def test_a_count_that_may_not_be_read(own: Callable[..., Place], tmp_path: Path) -> None:
    """Silence is not taken for none dropped."""
    rights = tmp_path / "rights"
    rights.write_text(
        "user watcher\ntopic readwrite orders/#\ntopic read $SYS/broker/version\ntopic read $SYS/broker/uptime\n"
    )
    first = own(acl_file=str(rights)).started()
    first.until(lambda: first.collector._began)
    before = first.collector._pushed._before.number
    first.until(lambda: first.collector._pushed._before.number > before + 3)
    assert first.collector._pushed.known.count is None
    first.collector.close()


def test_more_than_the_queue_holds_at_once(narrow: Place) -> None:
    """A burst fills the window, and the queue behind it, while the collector has read only a part of it, and it never
    holds as much as the window: what was dropped is a hole all the same."""
    place = narrow
    first = place.started(counted=True, window=20)
    place.publish(*(str(n) for n in range(40)))
    raws = taken(first, 15)
    first.collector.commit(raws)
    assert len(first.collector._pushed.held) < 20
    first.vouches()
    assert len({*(raw.value for raw in raws), *(each.encode() for each in first.ids)}) == 30
    assert 0 in first.named
    first.collector.close()


def test_whatever_is_in_a_message(place: Place) -> None:
    """A mark of byte order among its properties, which MQTT allows and the library refuses; no properties at all; no
    payload, and one that is no text."""
    first = place.started()
    place.publish("a", colour="b\ufefflue")
    old = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv311)
    old.username_pw_set("watcher", "its-password")
    old.connect("127.0.0.1", place.server.port)
    old.loop_start()
    for payload in (b"\xff\0", b""):
        old.publish(place.topic, payload, 1).wait_for_publish(20)
    old.disconnect()
    old.loop_stop()
    raws = taken(first, 3)
    assert [raw.headers.get("colour", b"").decode() for raw in raws] == ["b\ufefflue", "", ""]
    assert [raw.value for raw in raws] == [b"a", b"\xff\0", b""]
    for raw in raws[1:]:
        with pytest.raises(Undecodable, match="x-message-id"):
            first.collector.decode(raw)
    first.collector.close()


def test_a_commit_reads_no_more_than_there_is_room_for(place: Place) -> None:
    """Its answer lies behind what the broker has sent meanwhile."""
    first = place.started(memory_mb=1)
    place.publish("a")
    raws = taken(first, 1)
    client = place.server.client()
    client.loop_start()
    for _ in range(20):
        client.publish(place.topic, b"x" * 300_000, 1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()
    first.collector.commit(raws)
    assert 10**6 < first.collector._inbox.size < 14 * 10**5
    first.collector.close()


def test_given_again_or_published_again(place: Place) -> None:
    """What the broker gives again is the same event; the same id published twice is two. What was retained before the
    session began is nothing that happened."""
    place.publish("retained", retain=True)
    first = place.started()
    assert "retained" not in first.ids
    place.publish("a", "a")
    first.until(lambda: len(first.ids) == 2, commits=False)
    first.collector.close()
    second = place.watched()
    second.until(lambda: len(second.ids) == 2)
    assert [natural_key(e) for e in second.events] == [natural_key(e) for e in first.events]
    assert len({natural_key(e) for e in first.events}) == 2
    second.collector.close()


def test_another_filter_in_the_same_session(place: Place) -> None:
    """The session that had it is left behind: else what both take would come twice."""
    first = place.watched(topic=f"{place.topic}/#")
    first.until(lambda: first.collector._subscribed)
    first.collector.close()
    after = place.started()
    place.publish("a")
    after.vouches()
    assert after.ids == ["a"]
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
    trusting = place.started(ca=str(made))
    trusting.collector.close()
    with pytest.raises(Unavailable, match="certificate"):
        place.watched().collector.read(1, 0.1)
    gc.collect()
    with pytest.raises(ConfigInvalid, match="ca: "):
        place.watched(ca=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigInvalid, match="ca: "):
        place.watched(ca=str(place.server.process.log)).collector.read(1, 0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": "$share/a/orders"},
        {"topic": "a/#/b"},
        {"topic": "a+"},
        {"url": "http://127.0.0.1"},
        {"url": "mqtt://watcher:its-/password@127.0.0.1"},
        {"window": 0},
        {"to": 1},
    ],
)
def test_a_wrong_setting(place: Place, wrong: dict[str, Any]) -> None:
    """The key is named, and no part of a password."""
    with pytest.raises(ConfigInvalid, match=f"collector orders: {next(iter(wrong))}") as raised:
        place.watched(**wrong)
    assert "its-" not in str(raised.value)


def test_a_copy_is_sent_as_it_was(place: Place) -> None:
    """From what an archive keeps of it: to the topic that it had, with its properties and those of the replay. The
    collector sees it."""
    first = place.started()
    place.publish("a", colour="blue")
    raws = taken(first, 1)
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


def test_what_mqtt_cannot_carry(own: Callable[..., Place]) -> None:
    """Is not sent, for the broker would end the connection, and with it what else is on its way. A broker that wants
    fewer at once gets fewer. What nobody has subscribed to is refused: the broker does not keep it."""
    place = own(max_packet_size="100000", max_inflight_messages="3")
    back = publisher({"url": place.url, "topic": place.topic})

    def copy(value: bytes = b"a", **headers: bytes) -> Copy:
        return Copy(Locator("a", "mosquitto", "", 0), None, value, headers, digest_of(value))

    [nobody] = back.publish([copy()])
    assert nobody.error.startswith("refused: ")
    assert "No matching subscribers" in nobody.error
    first = place.started()
    wrong = [copy(x=b"a\nb"), copy(x=b"\0"), copy(x="\ufffe".encode()), copy(x=b"a" * 70_000), copy(b"x" * 100_000)]
    sent = back.publish([copy(), *wrong, copy(x="\ufeff\U0001f600".encode()), *[copy(b"x" * 99_000)] * 20])
    assert [each.error.partition(":")[0] for each in sent] == ["", *["not sent"] * 5, *[""] * 21]
    first.until(lambda: len(first.ids) == 22)
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
    place.started().collector.close()
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
