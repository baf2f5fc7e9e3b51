"""Watches one topic filter of an MQTT broker, by a subscriber of its own whose session the broker keeps.

It sees that the broker took a message (`persist`), and not what other clients did with it. Facts of MQTT 5.0: a message
of QoS 1 comes again until it is acknowledged (4.4), one of QoS 0 never does (4.3.1). A session keeps what comes while
its client is away, until it expires (3.1.2.11.2) and as far as the broker's queue goes; Mosquitto drops the rest in
silence, and counts that, for all clients together (mosquitto(8): `$SYS/broker/publish/messages/dropped`).

When was all of it read? Behind what there is we put a question that changes nothing: an UNSUBSCRIBE of what was never
subscribed. Mosquitto has one thread and answers in order, so what it took before the question lies before the answer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from pydantic import Field, field_validator

from collectors.base import Content, Lag, Raw, Unavailable, Undecodable
from collectors.carried import carried, digest_of, now_micros, number
from collectors.clock import Clock, steady
from collectors.errors import CollectorError, ConfigInvalid
from collectors.inbox import Inbox
from collectors.mqtt_client import NATIVE, Server, connected
from collectors.part import settings
from tracker.model.carry import MESSAGE_ID
from tracker.model.coverage import SourceRef
from tracker.model.event import Event, Stage

UPTIME, DROPPED = "$SYS/broker/uptime", "$SYS/broker/publish/messages/dropped"
QUESTION = "message-tracker/all-of-it"
"""What is never subscribed."""
ASK_EVERY = 200_000
"""Microseconds between two questions."""
PATIENCE = 10_000_000
"""Microseconds until CONNECT and SUBSCRIBE are answered."""
MOST = 1.0
"""Seconds that a commit waits for the broker's word."""
PROMPT = 1_000_000
"""Microseconds: what came within is dated by the moment at which it was read."""
SLACK = 3_000_000
"""Microseconds by which the start of a broker may seem to move: it tells its uptime in seconds, and that comes late."""
GONE_FOR_GOOD = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C})
"""Reasons of a CONNACK (3.2.2.2) that stay: version, client id, password, rights, banned, method."""


class Config(Server):
    """The keys beside `name` and `kind`; `docs/collectors/mqtt.md` explains each."""

    topic: str = Field(min_length=1, pattern=r"^(#|(\+|[^+#/]*)(/(\+|[^+#/]*))*(/#)?)$")  # 4.7.1
    flow: str
    hop: str
    client_id: str = ""
    identity_header: str = MESSAGE_ID
    at_least_once: bool = False
    window: Annotated[int, Field(ge=1, le=65_535)] = 5_000
    expiry: Annotated[int, Field(ge=60, le=2**32 - 1)] = 7 * 86_400
    node: str = ""
    region: str = ""

    @field_validator("topic")
    @classmethod
    def _its_own(cls, topic: str) -> str:
        if topic.startswith("$"):
            raise ValueError("a shared subscription takes messages from others, and $SYS holds none")
        return topic


class Place(NamedTuple):
    """Of a message: the connection that it came on; its packet id, the same as long as the session lives (0: QoS 0 has
    none); its topic; since when it may have waited in the broker (epoch µs)."""

    connection: int
    mid: int
    topic: str
    since: int | None


class Count(msgspec.Struct, frozen=True):
    """When this run of the broker began (µs), what it had dropped for anybody, and until when we had all of it (µs)."""

    started: int
    dropped: int
    reached: int

    def lost_nothing_since(self, before: Count) -> bool:
        """The same run of the broker, and the same count."""
        return self.dropped == before.dropped and abs(self.started - before.started) < SLACK


def subscribe(name: str, config: Mapping[str, Any], folder: Path | None = None) -> Subscriber:
    """A collector as the configuration describes it. Raises `ConfigInvalid` that names the key."""
    return Subscriber(name, settings(Config, config, f"collector {name}"), folder)


class Subscriber:
    """One session. `folder`: where the last `Count` is kept, so that a restart leaves no hole."""

    def __init__(self, name: str, config: Config, folder: Path | None = None, clock: Clock | None = None) -> None:
        self._config, self._clock, self.window = config, clock or steady(), config.window
        self._client_id = config.client_id or f"message-tracker-{name}"
        watched = SourceRef(config.flow, config.hop, Stage.persist.value, f"{self._client_id} {config.topic}")
        self._inbox = Inbox([watched], self._clock)
        self._kept = folder / "count.json" if folder else None
        self._last = _remembered(self._kept)  # None: it is not known what the broker had dropped when we had all of it
        self._emptied = self._last.reached if self._last else None
        self._written = 0
        self._fleeting = not config.at_least_once
        self._client: Client | None = None
        self._error: CollectorError | None = None
        self._connections = 0
        self._fresh()

    def read(self, limit: int, wait: float) -> list[Raw]:
        """What the broker gave. Connects when it has to."""
        client, until = self._connected(), time.monotonic() + wait
        raws: list[Raw] = []
        while len(raws) < limit:
            self._ask(client)
            if not self._inbox:
                left = 0.0 if raws else min(until - time.monotonic(), ASK_EVERY / 1e6)
                self._loop(client, max(0.0, left))
            if self._inbox:
                raws += self._inbox.take(limit - len(raws))
            elif raws or self._error or time.monotonic() >= until:
                break
        if self._error and not raws:
            self.close()
            raise self._error
        return raws

    def decode(self, raw: Raw) -> list[Event]:
        """One event. Its delivery is the packet id: the same when the broker gives the message again, another one when
        somebody publishes the same id again."""
        place = raw.position
        if not isinstance(place, Place) or raw.observed_at is None:
            raise Undecodable("no message of a subscription")
        said = carried(raw.headers, self._config.identity_header)
        if not said.message_id:
            raise Undecodable(f"a message of {place.topic!r} has no user property {self._config.identity_header!r}")
        config = self._config
        return [
            said.event(
                flow=config.flow,
                hop=config.hop,
                stage=Stage.persist,
                observed_at=raw.observed_at,
                observed_from=place.since,
                delivery=str(place.mid or raw.observed_at),
                digest=digest_of(raw.value),
                size=len(raw.value),
                partition=place.topic,
                node=config.node,
                region=config.region,
            )
        ]

    def content(self, raw: Raw, _: Event) -> Content:
        """Payload and user properties; `native` tells a publisher the topic."""
        return Content(None, raw.value, raw.headers, NATIVE + raw.position.topic.encode())

    def commit(self, raws: Sequence[Raw]) -> None:
        """Acknowledge, and wait for an answer behind it: the broker has it then, whatever becomes of us. What came on a
        connection that is gone comes again on the next one, by the same packet id."""
        mids = {raw.position.mid for raw in raws if raw.position.connection == self._connections} & self._held
        if self._client and mids:
            for mid in mids:
                self._client.ack(mid, 1)
            self._held -= mids
            self._wait_for_answer(self._client)

    def sources(self) -> Sequence[SourceRef] | None:
        """The filter, once all of it was read. After a hole one answer is empty."""
        return self._inbox.sources()

    def lag(self) -> Lag:
        """Since all of it was read. How much waits in the broker it does not say."""
        return self._inbox.lag()

    def close(self) -> None:
        """The session stays."""
        if self._client:
            self._client.disconnect()
            self._client = None

    # -- the connection ---------------------------------------------------------------------------------------------

    def _connected(self) -> Client:
        now = self._clock()
        if self._client and not self._subscribed and now - self._began > PATIENCE:
            self.close()
            raise Unavailable(f"{self._config.shown}: no answer to CONNECT and SUBSCRIBE")
        if self._client is None:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as the library has it
            properties.SessionExpiryInterval, properties.ReceiveMaximum = self._config.expiry, self.window
            client = connected(self._config, self._client_id, clean_start=False, properties=properties)
            client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
            client.on_subscribe, client.on_unsubscribe = self._on_subscribe, self._on_answer
            client.message_callback_add(UPTIME, self._on_uptime)
            client.message_callback_add(DROPPED, self._on_dropped)
            client.message_callback_add(self._config.topic, self._on_message)
            client.on_message = self._on_other
            self._client, self._connections = client, self._connections + 1
            self._fresh()
        return self._client

    def _loop(self, client: Client, wait: float) -> None:
        code = client.loop(wait)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS and not self._error:
            self._error = Unavailable(f"{self._config.shown}: {code.name}")

    def _fresh(self) -> None:
        """A connection begins."""
        self._began, self._subscribed = self._clock(), False
        self._error = None
        self._held: set[int] = set()  # not acknowledged yet
        self._asked: dict[int, int] = {}  # questions without an answer, and when they were put
        self._last_asked = 0
        self._answered: int | None = None  # the newest question that all of it lies before
        self._counted: int | None = None  # what was dropped until this moment is in the broker's count
        self._doubt: int | None = self._began  # when the queue may have been full last, and that is not settled
        self._told: set[str] = set()  # which of the two counters it lets us read
        self._uptime: tuple[int, int] | None = None  # when it was told (µs), seconds
        self._dropped: int | None = None

    def _on_connect(self, client: Client, _: Any, flags: ConnectFlags, reason: ReasonCode, __: Any) -> None:
        if reason.is_failure:
            wrong = ConfigInvalid if reason.value in GONE_FOR_GOOD else Unavailable
            self._error = wrong(f"{self._config.shown}: {reason}")
            return
        if not flags.session_present:
            self._emptied = self._began
        elif self._emptied is None:
            self._emptied = self._began - self._config.expiry * 1_000_000
        if not flags.session_present or self._fleeting or self._last is None:
            self._last = self._doubt = None
            self._inbox.hole()
        mine = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        told = SubscribeOptions(qos=0)
        client.subscribe([(self._config.topic, mine), (UPTIME, told), (DROPPED, told)])

    def _on_subscribe(self, _: Client, __: Any, ___: int, reasons: list[ReasonCode], ____: Any) -> None:
        if self._subscribed:
            return
        self._subscribed = not reasons[0].is_failure
        if not self._subscribed:
            self._error = ConfigInvalid(f"{self._config.shown}: topic {self._config.topic!r}: {reasons[0]}")

    def _on_disconnect(self, _: Client, __: Any, ___: Any, reason: ReasonCode, ____: Any) -> None:
        self._error = self._error or Unavailable(f"{self._config.shown}: connection ended: {reason}")

    # -- what comes -------------------------------------------------------------------------------------------------

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        now, read_at = self._clock(), now_micros()
        if message.qos:
            self._held.add(message.mid)
            if len(self._held) >= self.window:  # from now on the broker's queue fills
                self._doubt = now
        elif not self._fleeting:  # at_least_once does not hold
            self._fleeting = True
            self._inbox.hole()
        waited = now - (self._emptied or now)
        place = Place(self._connections, message.mid, message.topic, read_at - waited if waited > PROMPT else None)
        pairs = getattr(message.properties, "UserProperty", [])
        headers = {name: value.encode() for name, value in pairs}
        self._inbox.put(Raw(bytes(message.payload), headers, position=place, observed_at=read_at))

    def _on_other(self, client: Client, _: Any, message: MQTTMessage) -> None:
        client.ack(message.mid, message.qos)  # of a filter that this session had before

    def _on_uptime(self, client: Client, _: Any, message: MQTTMessage) -> None:
        seconds = number(message.payload.partition(b" ")[0])  # "17 seconds"
        self._told.add(UPTIME)
        if seconds is None or message.retain:  # a retained one is old
            return
        self._uptime, self._counted = (self._clock(), seconds), self._answered
        if self._fleeting or self._doubt is not None:
            self._dropped = None
            client.subscribe(DROPPED)  # to have it retained: it is told at QoS 0, and once, and so may be lost itself

    def _on_dropped(self, _: Client, __: Any, message: MQTTMessage) -> None:
        self._told.add(DROPPED)
        self._dropped = number(message.payload)

    # -- what is complete -------------------------------------------------------------------------------------------

    def _ask(self, client: Client, every: int = ASK_EVERY) -> None:
        now = self._clock()
        if self._subscribed and not self._asked and now - self._last_asked >= every:
            self._last_asked = now
            self._asked[client.unsubscribe(QUESTION)[1] or 0] = now

    def _wait_for_answer(self, client: Client) -> None:
        until = time.monotonic() + MOST
        self._asked.clear()
        self._ask(client, 0)
        while self._asked and not self._error and time.monotonic() < until:
            self._loop(client, 0.05)

    def _on_answer(self, _: Client, __: Any, mid: int, *___: Any) -> None:
        asked = self._asked.pop(mid, None)
        if asked is None or len(self._held) >= self.window:  # more may wait behind what we hold
            return
        if self._doubt is None and not self._fleeting:
            self._mark(asked, False)
        elif len(self._told) < 2 and not self._fleeting:  # who does not count may have dropped something
            self._doubt = None
            self._mark(asked, True)
        elif self._counted is not None and self._dropped is not None:
            self._settle(self._counted)
        self._answered = self._emptied = asked

    def _settle(self, counted: int) -> None:
        """The broker has told its counts since this question was answered: what it told came before this answer, and
        what it dropped before the question is among that."""
        count, last, self._counted = self._count(counted), self._last, None
        self._mark(counted, last is not None and not (count and count.lost_nothing_since(last)))
        if self._doubt is not None and self._doubt <= counted:
            self._doubt = None

    def _mark(self, reached: int, hole: bool) -> None:
        self._inbox.complete(reached, hole)
        count, last = self._count(reached), self._last
        self._last = count
        if self._kept and count and not (last and last.dropped == count.dropped and reached - self._written < PROMPT):
            self._written = reached
            with suppress(OSError):  # an older one may make a hole, and hides none
                self._kept.write_bytes(msgspec.json.encode(count))

    def _count(self, reached: int) -> Count | None:
        if self._uptime is None or self._dropped is None:
            return None
        told_at, seconds = self._uptime
        if seconds * 1_000_000 < SLACK:  # its next run could not be told from this one
            return None
        return Count(told_at - seconds * 1_000_000, self._dropped, reached)


def _remembered(path: Path | None) -> Count | None:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Count) if path else None
    return None
